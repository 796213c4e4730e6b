"""Rows of cells from Excel's workbooks."""

import datetime
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_tuning import extras
from gpt2_tuning.data.column_names import check_names
from gpt2_tuning.errors import UserError

LARGEST = 1 << 30
"""Bytes that a workbook may hold once it is unpacked, as its texts are held in memory at once."""


def excel_rows(path: Path, remarks: list[str]) -> Iterator[list[Any]]:
    """The header, then each row with as many cells, of a workbook's first sheet.

    A cell holds a text, a number, true or false, or None; dates are texts as ISO 8601 has them.
    Rows without anything and columns without a name behind the last that has one do not count.

    Args:
        path: of a file that is there.
        remarks: what was not the plain case is added.

    Raises:
        UserError: `openpyxl` is not installed, or the file is no workbook or a very large one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(damaged(path)) from error
    extras.check_installed("excel", f"{path}, an Excel workbook,")
    if size > LARGEST:
        raise UserError(
            f"{path} unpacks to {size / 1e9:.1f} GB, more than {LARGEST / 1e9:.1f}: save it as CSV"
        )
    rows = filled(path, remarks)
    header = next(rows, None)
    if header is None:
        raise UserError(f"no rows in {path}")
    while header and header[-1] is None:
        header.pop()
    names = ["" if name is None else str(name) for name in header]
    check_names(names, path)
    yield names
    for row in rows:
        yield [*row, *[None] * (len(names) - len(row))][: len(names)]


def filled(path: Path, remarks: list[str]) -> Iterator[list[Any]]:
    """The rows that have a cell with something in it."""
    import openpyxl

    try:
        with path.open("rb") as file:  # of a path openpyxl would judge the name
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            if len(book.worksheets) > 1:
                remarks.append(f"sheet {sheet.title!r}, the first of {len(book.worksheets)}")
            sheet.reset_dimensions()  # what programs note there is not always so
            for cells in sheet.iter_rows(values_only=True):
                row = list(map(cell_value, cells))
                if any(value is not None for value in row):
                    yield row
    except Exception as error:  # openpyxl checks little: it raises whatever it stumbles on
        raise UserError(damaged(path)) from error


def damaged(path: Path) -> str:
    """Says that a file is not what its first bytes say."""
    return f"{path} begins as an Excel workbook does, but is none, or damaged: save it as CSV"


def cell_value(value: Any) -> str | int | float | bool | None:
    """What a cell holds."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)

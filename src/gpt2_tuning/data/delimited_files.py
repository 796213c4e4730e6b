"""Rows of cells from CSV and TSV, as text: what stands between cells is looked for in the head."""

import csv
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from gpt2_tuning.data.column_names import check_columns, check_names
from gpt2_tuning.data.reading import Reading
from gpt2_tuning.data.text_files import opened_text
from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import inner_suffix

TSV = ".tsv"
DELIMITERS = {
    ",": "comma-separated",
    ";": "semicolon-separated",
    "\t": "tab-separated",
    "|": "separated by |",
}
"""What may stand between the cells of a .csv, the likeliest first, and how that is called."""
HEAD = 1 << 16
"""Characters that are looked at for it."""


def delimited_rows(path: Path, reading: Reading, remarks: list[str]) -> Iterator[list[str]]:
    """The header, then each row with as many cells, of a CSV file or a TSV one.

    In a TSV file between tabs a quote is a character. Empty cells behind a row's last column count
    for nothing, nor do rows of empty cells alone.

    Args:
        path: of a file that is there.
        reading: what the flags say.
        remarks: what was not the plain case is added, in the end.

    Raises:
        UserError: the file cannot be parsed, or has no header.
    """
    csv.field_size_limit(sys.maxsize)  # the default stops at texts of 128 kB
    is_tsv = inner_suffix(path) == TSV
    with opened_text(path, reading.encoding, remarks) as file:
        usual = "\t" if is_tsv else ","
        delimiter, lines = reading.delimiter or usual, iter(file)
        if not is_tsv and not reading.delimiter:
            delimiter, lines = sniffed(file)
        if remarks or delimiter != usual:
            remarks.append(DELIMITERS.get(delimiter, f"separated by {delimiter}"))
        if is_tsv and delimiter == "\t":
            reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            yield from filled_rows(reader, path, remarks)
        except csv.Error as error:
            raise UserError(f"cannot parse {path}: {error} (line {reader.line_num})") from error


def filled_rows(reader: Any, path: Path, remarks: list[str]) -> Iterator[list[str]]:
    """What `delimited_rows` gives, of what the parser gives."""
    header: list[str] = next(reader, [])
    if not header:
        raise UserError(f"no rows in {path}")
    check_names(header, path)
    yield header
    width, empty = len(header), 0
    for row in reader:
        if len(row) == width and (row[0] or width == 1 or any(row)):
            yield row
        elif not any(row):
            empty += bool(row)  # else a blank line
        elif fits(row, header):
            yield [*row, *[""] * (width - len(row))][:width]
        else:
            raise UserError(
                f"cannot parse {path}: line {reader.line_num} has {len(row)} columns,"
                f" the header has {width}"
            )
    if empty:
        remarks.append(f"{empty:,} row{'s' * (empty > 1)} of empty cells left out")


def fits(row: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a row and the header differ in empty cells at their ends at most."""
    return not any(row[len(header) :]) and not any(map(str.strip, header[len(row) :]))


def sniffed(file: TextIO) -> tuple[str, Iterator[str]]:
    """What stands between the cells of a CSV file, and all its lines."""
    head = file.read(HEAD)
    if whole := len(head) < HEAD:
        rest: Iterable[str] = ()
    else:
        head, rest = head + file.readline(), file
    lines = io.StringIO(head, newline="").readlines()
    found = next((one for one in DELIMITERS if divides(lines, one, whole)), ",")
    return found, itertools.chain(lines, rest)


def divides(lines: Sequence[str], delimiter: str, whole: bool) -> bool:
    """Whether all rows of a file's head have the header's columns, two or more, by a delimiter."""
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    if not whole:
        rows = [*rows[:1], *rows[1:-1]]  # a cell with line breaks may go on behind the head
    return (
        bool(rows)
        and len(rows[0]) > 1
        and all(len(row) == len(rows[0]) or fits(row, rows[0]) for row in rows)
    )


def wanted_cells(
    rows: Iterator[Sequence[Any]], wanted: Sequence[str], path: Path
) -> dict[str, list[Any]]:
    """The columns that are wanted, of a header and the rows behind it.

    Raises:
        UserError: a column is missing, or has the name of another.
    """
    header = next(rows)
    check_columns(header, wanted, path.name)
    check_names(header, path, wanted)
    positions = [header.index(name) for name in wanted]
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for row in rows:
        for name, position in zip(wanted, positions, strict=True):
            columns[name].append(row[position])
    return columns

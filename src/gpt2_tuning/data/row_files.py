"""Rows from local files: JSON in its forms, CSV, TSV, Parquet and Excel's workbooks.

Text must arrive as it was written. The file readers of `datasets` guess types ("007" becomes 7,
"NA" nothing, a column of dates timestamps) and answer from a cache, so the text formats are read
here with the standard library, straight from the file each time.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gpt2_tuning.data.column_names import check_columns
from gpt2_tuning.data.columns import as_table, check_text_columns, with_unix_newlines
from gpt2_tuning.data.conversations import as_json
from gpt2_tuning.data.delimited_files import delimited_rows, wanted_cells
from gpt2_tuning.data.excel_files import excel_rows
from gpt2_tuning.data.json_files import json_rows
from gpt2_tuning.data.parquet_files import parquet_columns, parquet_table, stored_class_names
from gpt2_tuning.data.reading import BY_ITSELF, Reading, notes_on
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.text_files import compression_of
from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import COMPRESSED, inner_suffix

EXCEL, PARQUET = ".xlsx", ".parquet"
DELIMITED = (".csv", ".tsv")
"""The formats whose cells are all text."""
SUFFIXES = (".json", ".jsonl", *DELIMITED, PARQUET, ".ndjson", EXCEL)
SIGNATURES = {b"PK\x03\x04": EXCEL, b"PAR1": PARQUET}
"""What files that are no text begin with, whatever they are called."""
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
CALLED = {EXCEL: "an Excel workbook", PARQUET: "Parquet"}


def read_row_file(
    path: Path,
    text_columns: Sequence[str],
    label_column: str | None,
    reading: Reading = BY_ITSELF,
) -> Rows:
    r"""The rows of one file, with only the columns named.

    Text columns are strings (or None where a row lacks one), with \n for \r\n; the label column
    keeps its type. CSV and TSV have no types: there it is text, and the rows are marked `untyped`.

    Raises:
        UserError: the file is missing, empty, of an unknown format or cannot be parsed; a column
            is missing, or has the name of another; a text column holds something else.
    """
    return rows_of_file(path, text_columns, label_column, reading, [])


def read_row_files(
    paths: Sequence[Path],
    text_columns: Sequence[str],
    label_column: str | None,
    reading: Reading,
    notes: list[str],
) -> Rows:
    """The rows of several files, one after the other; what they were read as is added to the notes.

    Arguments and errors are those of `read_row_file`; nor may a column hold one kind of value in
    one file and another kind in another.
    """
    remarks: dict[str, list[str]] = {}
    parts = [
        rows_of_file(path, text_columns, label_column, reading, remarks.setdefault(path.name, []))
        for path in paths
    ]
    notes += notes_on(remarks)
    return parts[0] if len(parts) == 1 else joined(parts, paths)


def rows_of_file(
    path: Path,
    text_columns: Sequence[str],
    label_column: str | None,
    reading: Reading,
    remarks: list[str],
) -> Rows:
    """What `read_row_file` gives; what was not the plain case is added to the remarks."""
    check_file(path)
    kind = kind_of(path, remarks)
    wanted = list(dict.fromkeys([*text_columns, *([label_column] if label_column else [])]))
    names: dict[str, list[str]] = {}
    if kind == PARQUET:
        table = with_conversations(parquet_table(path, wanted), reading)
        names = stored_class_names(table.schema)
    else:
        columns = wanted_values(path, kind, wanted, reading, remarks)
        table = as_table(columns, path, text_columns, reading.coerce)
    if not table.num_rows:
        raise UserError(f"no rows in {path}")
    table = check_text_columns(table, text_columns, str(path), reading.coerce)
    return Rows(with_unix_newlines(table), names, untyped=kind in DELIMITED)


def with_conversations(table: pa.Table, reading: Reading) -> pa.Table:
    """The table with its columns of conversations as JSON text."""
    for name in reading.conversations:
        position = table.schema.get_field_index(name)
        if position >= 0 and pa.types.is_nested(table.schema.field(position).type):
            texts = list(map(as_json, table.column(position).to_pylist()))
            table = table.set_column(position, name, pa.array(texts, pa.large_string()))
    return table


def wanted_values(
    path: Path, kind: str, wanted: Sequence[str], reading: Reading, remarks: list[str]
) -> dict[str, list[Any]]:
    """The columns that are wanted, as Python values. Raises UserError as `read_row_file` does."""
    if kind == EXCEL:
        return wanted_cells(excel_rows(path, remarks), wanted, path)
    if kind in DELIMITED:
        return wanted_cells(delimited_rows(path, reading, remarks), wanted, path)
    found: dict[str, None] = {}  # an ordered set
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for row in json_rows(path, reading, remarks, wanted):
        found.update(dict.fromkeys(row))
        for name in wanted:
            value = row.get(name)
            columns[name].append(as_json(value) if name in reading.conversations else value)
    if found:
        check_columns(list(found), wanted, path.name)
    return columns


def read_all_columns(path: Path, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of one file with every column, as plain values; CSV and TSV hold only strings.

    What it was read as is added to the notes. Of several columns without a name the last is kept.

    Raises:
        UserError: the file is missing, empty, of an unknown format or cannot be parsed, or two
            columns have one name.
    """
    check_file(path)
    remarks: list[str] = []
    kind = kind_of(path, remarks)
    if kind == PARQUET:
        rows = parquet_table(path, None).to_pylist()
    elif kind == EXCEL:
        rows = as_dicts(excel_rows(path, remarks))
    elif kind in DELIMITED:
        rows = as_dicts(delimited_rows(path, BY_ITSELF, remarks))
    else:
        rows = list(json_rows(path, remarks=remarks))
    if not rows:
        raise UserError(f"no rows in {path}")
    if notes is not None:
        notes += notes_on({path.name: remarks})
    return rows


def as_dicts(rows: Iterator[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of cells behind their header, by the names of its columns."""
    header = next(rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def column_names(path: Path, reading: Reading = BY_ITSELF, most: int | None = None) -> list[str]:
    """The columns of a file, without typing their values.

    Of JSON, whose rows may differ in their keys, `most` rows are looked at; None looks at all.
    Raises as `read_all_columns` does.
    """
    check_file(path)
    remarks: list[str] = []
    kind = kind_of(path, remarks)
    if kind == PARQUET:
        return parquet_columns(path)
    if kind == EXCEL:
        return next(excel_rows(path, remarks))
    if kind in DELIMITED:
        return next(delimited_rows(path, reading, remarks))
    found: dict[str, None] = {}  # an ordered set
    for row in itertools.islice(json_rows(path, reading), most):
        found.update(dict.fromkeys(row))
    if not found:
        raise UserError(f"no rows in {path}")
    return list(found)


def check_file(path: Path, others: Sequence[str] = ()) -> None:
    """Raises UserError when there is no such file, nothing in it, or its format is unknown.

    `others` are suffixes that are known beside SUFFIXES.
    """
    known = [*others, *SUFFIXES]
    if path.is_dir():
        raise UserError(f"{path} is a directory: give the files in it, such as '{path}/*.jsonl'")
    if inner_suffix(path) not in known:
        raise UserError(
            f"unknown format {path.name}: the name must end in {', '.join(known)}, or one of them"
            f" and {' or '.join(COMPRESSED)}"
        )
    if not path.exists():
        raise UserError(f"no such file: {path}")
    if not path.is_file():
        raise UserError(f"not a file: {path}")
    if path.stat().st_size == 0:
        raise UserError(f"empty file: {path}")


def kind_of(path: Path, remarks: list[str]) -> str:
    """A file's format, as the suffix of such: by its first bytes, or else its name.

    Raises:
        UserError: it is an old workbook of Excel's, or a compressed file of what is compressed.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head == OLD_EXCEL:
        raise UserError(f"{path} is a workbook of an old Excel (.xls): save it as .xlsx or CSV")
    suffix = inner_suffix(path)
    kind = SIGNATURES.get(head, suffix)
    if kind != suffix:
        remarks.append(CALLED[kind])
    elif kind in CALLED and compression_of(path):
        raise UserError(f"{path} holds {CALLED[kind]}, which is compressed anyhow: unpack it")
    return kind


def joined(parts: Sequence[Rows], paths: Sequence[Path]) -> Rows:
    """The rows of several files, which have the same columns, as one table.

    Raises:
        UserError: files differ in what a column holds, or in the names of classes.
    """
    first = parts[0]
    for part, path in zip(parts, paths, strict=True):
        for name in first.column_names:
            kinds = kind_of_values(first.kind(name)), kind_of_values(part.kind(name))
            if kinds[0] != kinds[1] and "null" not in kinds:
                raise UserError(
                    f"column {name!r} holds {kinds[0]} in {paths[0].name} and {kinds[1]} in"
                    f" {path.name}: give all files the same kind"
                )
        if part.class_names != first.class_names:
            raise UserError(f"{paths[0].name} and {path.name} name their classes differently")
    table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    untyped = all(part.untyped for part in parts)
    return dataclasses.replace(first, table=table, untyped=untyped)


def kind_of_values(kind: str) -> str:
    """A type of Rows as one of those that go together."""
    if kind.startswith(("int", "uint", "float")):
        return "numbers"
    return "text" if kind == "large_string" or kind == "string" else kind

"""Rows from local files: JSON arrays, JSON lines, CSV, TSV and Parquet.

Text must arrive as it was written. The file readers of `datasets` guess types ("007" becomes 7,
"NA" nothing, a column of dates timestamps) and answer from a cache, so the two text formats are
read here with the standard library, straight from the file each time.
"""

import contextlib
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet

from gpt2_tuning.data.columns import as_table, with_unix_newlines
from gpt2_tuning.data.json_files import json_rows
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNTYPED = (".csv", ".tsv")
"""The formats whose cells are all text."""


def read_row_file(path: Path, text_columns: Sequence[str], label_column: str | None) -> Rows:
    r"""The rows of one file, with only the columns named.

    Text columns are strings (or None where a row lacks one), with \n for \r\n; the label column
    keeps its type. CSV and TSV have no types: there it is text, and the rows are marked `untyped`.

    Raises:
        UserError: the file is missing, empty, of an unknown format or cannot be parsed; a column
            is missing, or has the name of another; a text column holds something else.
    """
    check_file(path)
    suffix = path.suffix.lower()
    wanted = list(dict.fromkeys([*text_columns, *([label_column] if label_column else [])]))
    try:
        table = with_unix_newlines(READERS[suffix](path, wanted))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    if not table.num_rows:
        raise UserError(f"no rows in {path}")
    rows = Rows(table, stored_class_names(table.schema), untyped=suffix in UNTYPED)
    check_text_columns(rows, text_columns, path.name)
    return rows


def read_all_columns(path: Path) -> list[dict[str, Any]]:
    """The rows of one file with every column, as plain values; CSV and TSV hold only strings.

    Of several columns without a name the last is kept.

    Raises:
        UserError: the file is missing, empty, of an unknown format or cannot be parsed, or two
            columns have one name.
    """
    check_file(path)
    rows: list[dict[str, Any]]
    try:
        if path.suffix.lower() == ".parquet":
            rows = parquet_table(path, None).to_pylist()
        elif path.suffix.lower() in UNTYPED:
            header, *cells = separated_rows(path)
            rows = [dict(zip(header, row, strict=True)) for row in cells]
        else:
            rows = list(json_rows(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    if not rows:
        raise UserError(f"no rows in {path}")
    return rows


def column_names(path: Path) -> list[str]:
    """The columns of a file, without typing their values. Raises as `read_all_columns` does."""
    check_file(path)
    if path.suffix.lower() == ".parquet":
        return parquet_columns(path)
    try:
        if path.suffix.lower() in UNTYPED:
            return next(separated_rows(path))
        found: dict[str, None] = {}  # an ordered set
        for row in json_rows(path):
            found.update(dict.fromkeys(row))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    if not found:
        raise UserError(f"no rows in {path}")
    return list(found)


def check_file(path: Path, others: Sequence[str] = ()) -> None:
    """Raises UserError when there is no such file, nothing in it, or its format is unknown.

    `others` are suffixes that are known beside those of READERS.
    """
    known = [*others, *READERS]
    if path.is_dir():
        raise UserError(f"{path} is a directory: give the files in it")
    if path.suffix.lower() not in known:
        raise UserError(f"unknown format {path.name}: the name must end in {', '.join(known)}")
    if not path.exists():
        raise UserError(f"no such file: {path}")
    if not path.is_file():
        raise UserError(f"not a file: {path}")
    if path.stat().st_size == 0:
        raise UserError(f"empty file: {path}")


class MissingColumn(UserError):
    """Rows lack a column that is wanted."""

    def __init__(self, where: str, column: str, found: Sequence[str]):
        super().__init__(f"{where} has no column {column!r}; its columns: {', '.join(found)}")
        self.column = column


def check_columns(found: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raises MissingColumn, naming the columns that there are, when one that is wanted is not."""
    for name in wanted:
        if name not in found:
            raise MissingColumn(where, name, found)


@contextlib.contextmanager
def naming_flags(options: "DataclassInstance") -> Iterator[None]:
    """Adds to what is said of a missing column which of the flags names it: `--text_column`.

    Raises:
        UserError: in place of MissingColumn.
    """
    try:
        yield
    except MissingColumn as error:
        flags = [
            f"--{field.name}"
            for field in dataclasses.fields(options)
            if field.name.endswith("_column") and getattr(options, field.name) == error.column
        ]
        advice = f": name one with {' or '.join(flags)}" if flags else ""
        raise UserError(f"{error}{advice}") from error


def check_names(found: Sequence[str], path: Path, wanted: Sequence[str] = ()) -> None:
    """Raises UserError when two columns have one name.

    Columns without a name, as commas at the ends of lines make them, may be several if none is
    wanted.
    """
    for name in dict.fromkeys(found):
        if found.count(name) > 1 and (name.strip() or name in wanted):
            raise UserError(
                f"{path} has {found.count(name)} columns called {name!r}: rename or remove all"
                " but one"
            )


def check_text_columns(rows: Rows, columns: Sequence[str], where: str) -> None:
    """Raises UserError when a column that should be text is of another type."""
    for name in columns:
        kind = rows.kind(name)
        if kind not in ("string", "large_string", "null"):
            raise UserError(f"{where}: column {name!r} holds {kind}, not text")


def read_json(path: Path, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a JSON array of objects, or of one object a line."""
    found: dict[str, None] = {}  # an ordered set
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for row in json_rows(path):
        found.update(dict.fromkeys(row))
        for name in wanted:
            columns[name].append(row.get(name))
    if found:
        check_columns(list(found), wanted, path.name)
    return as_table(columns, path)


def read_separated(path: Path, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a CSV or TSV file, as text."""
    rows = separated_rows(path)
    header = next(rows)
    check_columns(header, wanted, path.name)
    check_names(header, path, wanted)
    positions = [header.index(name) for name in wanted]
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for row in rows:
        for name, position in zip(wanted, positions, strict=True):
            columns[name].append(row[position])
    return as_table(columns, path)


def separated_rows(path: Path) -> Iterator[list[str]]:
    """The header, then each row, of a CSV file, or of a TSV file, where a quote is a character."""
    csv.field_size_limit(sys.maxsize)  # the default stops at texts of 128 kB
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".tsv":
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if not header:
                raise UserError(f"no rows in {path}")
            check_names(header, path)
            yield header
            for row in reader:
                if row and len(row) != len(header):
                    raise UserError(
                        f"cannot parse {path}: line {reader.line_num} has {len(row)} columns,"
                        f" the header has {len(header)}"
                    )
                if row:  # else a blank line
                    yield row
        except csv.Error as error:
            raise UserError(f"cannot parse {path}: {error} (line {reader.line_num})") from error


def read_parquet(path: Path, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a Parquet file; class names that `datasets` stored are kept."""
    table = parquet_table(path, wanted)
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # a categorical column of pandas
            plain = table.column(position).cast(field.type.value_type)
            table = table.set_column(position, field.name, plain)
    return table


def stored_class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of classes that `datasets` notes in the files it writes, by column."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = noted["info"]["features"]
        return {
            name: list(map(str, features[name]["names"]))
            for name in schema.names
            if features[name].get("_type") == "ClassLabel"
            and pa.types.is_integer(schema.field(name).type)
        }
    except (ValueError, LookupError, TypeError, AttributeError):  # no such note
        return {}


def parquet_columns(path: Path) -> list[str]:
    """The columns of a Parquet file."""
    try:
        names: list[str] = pyarrow.parquet.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot parse {path}: {error}") from error
    check_names(names, path)
    return names


def parquet_table(path: Path, wanted: Sequence[str] | None) -> pa.Table:
    """A Parquet file, or the wanted columns of it."""
    found = parquet_columns(path)
    check_columns(found, wanted or [], path.name)
    check_names(found, path, wanted or [])
    try:
        return pyarrow.parquet.read_table(path, columns=None if wanted is None else list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot parse {path}: {error}") from error


READERS = {
    ".json": read_json,
    ".jsonl": read_json,
    ".csv": read_separated,
    ".tsv": read_separated,
    ".parquet": read_parquet,
}

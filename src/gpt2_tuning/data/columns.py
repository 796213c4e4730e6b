"""Columns of a file's values as Arrow's: of one kind each, valid Unicode, line ends as Unix has."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gpt2_tuning.data.tokenizer import check_encodable
from gpt2_tuning.errors import UserError

KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}
"""What the values of JSON are called."""
WINDOWS_NEWLINE, NEWLINE = "\r\n", "\n"


def as_table(
    columns: Mapping[str, Sequence[object]],
    path: Path,
    text_columns: Sequence[str] = (),
    coerce: bool = False,
) -> pa.Table:
    """Columns of Python values as an Arrow table.

    Args:
        columns: the values.
        path: where they come from.
        text_columns: columns that may hold nothing but texts.
        coerce: whether numbers, true and false become texts there, and in other columns that mix
            them with texts.

    Raises:
        UserError: a column mixes kinds of values, or holds something else than text.
    """
    arrays = {}
    for name, values in columns.items():
        is_text = name in text_columns
        if coerce and (is_text or str in set(map(type, values))):
            values = list(map(written, values))
        if is_text:
            check_texts(values, str(path), name)
        else:
            check_one_kind(values, f"{path}: column {name!r}")
        try:
            arrays[name] = pa.array(values)
        except UnicodeEncodeError:
            for number, value in enumerate(values, start=1):
                check_value(value, f"{path}, row {number}, column {name!r}")
            raise
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise UserError(
                f"{path}: column {name!r} holds numbers of more than 64 bits, or lists or objects"
                " that differ in kind: a column is read of text, or of numbers"
            ) from error
    return pa.table(arrays)


def written(value: object) -> object:
    """A number, true or false as JSON writes it, NaN as nothing; what is none of them stays."""
    if not isinstance(value, bool | int | float):
        return value
    return None if value != value else json.dumps(value)


def check_texts(values: Iterable[object], where: str, column: str) -> None:
    """Raises UserError, naming the first row that holds it, where a value is no text."""
    if set(map(type, values)) <= {str, type(None)}:
        return
    row, value = next(
        (row, value)
        for row, value in enumerate(values, start=1)
        if not isinstance(value, str | None)
    )
    kind = KINDS.get(type(value), f"a {type(value).__name__}")
    single = isinstance(value, bool | int | float)
    shown = f" ({json.dumps(value):.40})" if single else ""
    advice = ": put it in quotes, or take such as text with --coerce" if single else ""
    raise UserError(f"{where}, row {row}: column {column!r} holds {kind}{shown}, not text{advice}")


def check_text_columns(
    table: pa.Table, columns: Sequence[str], where: str, coerce: bool = False
) -> pa.Table:
    """The table, once all of these columns are of text; `coerce` has others become it, if it can.

    Raises:
        UserError: a column holds something else; it names the first row that does.
    """
    for name in dict.fromkeys(columns):
        kind = table.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
            continue
        values = table.column(name).to_pylist()
        if coerce:
            values = list(map(written, values))
        check_texts(values, where, name)
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, pa.array(values, pa.large_string()))
    return table


def check_one_kind(values: Sequence[object], where: str) -> None:
    """Raises UserError, naming the first row where it changes, when the kind of value does.

    Arrow would take [1.0, true] for two numbers.
    """
    if len(set(map(type, values)) - {type(None)}) < 2:
        return
    kinds = [(row, KINDS[type(value)]) for row, value in enumerate(values, 1) if value is not None]
    first, kind = kinds[0]
    for row, other in kinds:
        if other != kind:
            raise UserError(
                f"{where} holds {kind} in row {first} and {other} in row {row}:"
                " give all rows the same kind"
            )


def check_value(value: object, where: str) -> None:
    """Raises UserError, saying where, when a string is not valid Unicode."""
    if isinstance(value, str):
        try:
            check_encodable(value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def unix_newlines(text: str) -> str:
    r"""A text with its line ends as Unix writes them: \r\n becomes \n, a lone \r stays.

    GPT-2 has tokens for \r, so the same text from Windows would be learnt as another.
    """
    return text.replace(WINDOWS_NEWLINE, NEWLINE)


def with_unix_newlines(table: pa.Table) -> pa.Table:
    r"""What `unix_newlines` does, for all columns of text; what has no \r\n is not copied."""
    for position, field in enumerate(table.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        column = table.column(position)
        found = [
            pc.any(pc.match_substring(part, WINDOWS_NEWLINE)).as_py() for part in column.chunks
        ]
        if any(found):
            parts = [
                pc.replace_substring(part, WINDOWS_NEWLINE, NEWLINE) if changed else part
                for part, changed in zip(column.chunks, found, strict=True)
            ]
            table = table.set_column(position, field, pa.chunked_array(parts, field.type))
    return table

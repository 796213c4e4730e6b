"""Tables from Parquet, with text as plain text whatever its column is stored as."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from gpt2_tuning.data.column_names import check_columns, check_names
from gpt2_tuning.errors import UserError


def parquet_columns(path: Path) -> list[str]:
    """The columns of a Parquet file."""
    try:
        names: list[str] = pyarrow.parquet.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot parse {path}: {error}") from error
    check_names(names, path)
    return names


def parquet_table(path: Path, wanted: Sequence[str] | None) -> pa.Table:
    """A Parquet file, or the wanted columns of it.

    Raises:
        UserError: it cannot be parsed, a column is missing, or has the name of another.
    """
    found = parquet_columns(path)
    check_columns(found, wanted or [], path.name)
    check_names(found, path, wanted or [])
    try:
        table = pyarrow.parquet.read_table(path, columns=None if wanted is None else list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot parse {path}: {error}") from error
    try:
        table.validate(full=True)  # reading does not look at what texts are made of
    except pa.ArrowException as error:
        raise UserError(
            f"{path} is damaged, or holds texts that are not UTF-8: write it anew ({error})"
        ) from error
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) or pa.types.is_string_view(field.type):
            table = table.set_column(position, field.name, as_values(table.column(position)))
    return table


def as_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a categorical column, an enum or a column of views of text."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string_view(kind):
        kind = pa.large_string()
    try:
        return column.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # not in all versions of Arrow
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])


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
    # No such note, or not ours to read.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}

"""Rows from JSON: an array of objects, or one object a line."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_tuning.errors import UserError


class RepeatedKeyError(ValueError):
    """An object has a key twice; the message is the key."""


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row. Either layout may have either suffix; NaN, which is no JSON, is read as null."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        for number, row in enumerate(parsed(text, path, 0), start=1):
            yield checked_row(row, f"{path}, row {number}")
        return
    # Not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield checked_row(parsed(line, path, number), f"{path}, line {number}")


def checked_row(row: object, where: str) -> dict[str, Any]:
    """The row, if it is a JSON object. Raises UserError when it is anything else."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be a JSON object, not {type(row).__name__}")
    return row


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which Python alone would keep the last value of a repeated key."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return row


DECODER = json.JSONDecoder(
    object_pairs_hook=with_unique_keys,
    parse_constant={"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}.get,
)


def parsed(text: str, path: Path, line: int) -> Any:
    """JSON parsed; `line` is that of a JSON-lines file, 0 for a whole file."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}, column {error.colno}"
        raise UserError(f"cannot parse {path}: {error.msg} at {where}") from error
    except RepeatedKeyError as error:
        where = f"{path}, line {line}" if line else f"{path}"
        raise UserError(
            f"{where}: an object has the key {str(error)!r} twice: rename or remove one of them"
        ) from error

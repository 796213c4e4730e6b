"""Rows as lines of JSON that every reader takes, whatever stood in the file they came from."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_line(row: Mapping[str, Any], added: Mapping[str, Any]) -> str:
    """A row with the columns added to it, as JSON, with half a surrogate pair escaped.

    A NaN or an infinite number of the row's own, which JSON has not, is written as null. One in
    `added` is a defect: ValueError.
    """
    try:
        text = strict_json({**row, **added})
    except ValueError:
        text = strict_json({**without_nan(row), **added})
    # Python escapes half a pair as JSON does: a backslash, u and four digits.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def strict_json(row: Mapping[str, Any]) -> str:
    """JSON in one line; what it has no type for, such as a date, is written as text."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)


def without_nan(value: Any) -> Any:
    """A value of JSON with None for numbers that JSON has not."""
    if isinstance(value, Mapping):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_nan, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""What a value that may come from a file or a flag must be."""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

LONGEST_NAME = 255
"""Characters of a file's name."""
MOST_SHARE = 1e30
"""Less than what float32 holds, so that a share times what it is a share of is finite."""
SHOWN = 60
"""Characters of a value in a message; the others are left out."""


def is_number(value: Any) -> bool:
    """Whether a value, which may come from a file, is a real number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether it is a whole number, and not out of its range; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def is_share(value: Any) -> bool:
    """Whether it is a finite number, and small enough that what it multiplies stays finite."""
    return is_number(value) and abs(value) < MOST_SHARE


def is_text(value: Any) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """Whether it is a list of strings."""
    return isinstance(value, list) and all(map(is_text, value))


def is_file_name(value: Any) -> bool:
    """Whether it can be the name of a file that lies beside the one which names it."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and len(value) <= LONGEST_NAME
        and PurePath(value).name == value != ""
    )


def is_mapping_of_text(value: Any, *keys: str) -> bool:
    """Whether it is an object of strings, these keys among them."""
    return (
        isinstance(value, Mapping)
        and all(map(is_text, value.values()))
        and all(key in value for key in keys)
    )


def shown(value: object) -> str:
    """A value on one line of a message, cut where it is long, many or deep."""
    if isinstance(value, (Sequence, Mapping)) and not isinstance(value, str):
        short = reprlib.Repr()
        short.maxlevel, short.maxother, short.maxstring, short.maxlong = 3, SHOWN, SHOWN, SHOWN
        text = short.repr(value)
    else:
        # Of a long text its beginning, since repr would make another one as long.
        text = repr(value[: SHOWN + 1] if isinstance(value, str) else value)
    return cut(text)


def cut(text: str) -> str:
    """A text on one line of a message, without its end where it is long."""
    line = " ".join(text[: SHOWN + 1].split())
    return line if len(text) <= SHOWN else line[:SHOWN] + "..."

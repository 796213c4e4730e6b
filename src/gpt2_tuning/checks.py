"""What a value that may come from a file or a flag must be."""

from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value, which may come from a file, is a real number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether it is a whole number, and not out of its range; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return (least is None or value >= least) and (most is None or value <= most)

"""What a value that may come from a file or a flag must be."""

from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value, which may come from a file, is a real number (True and False are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

"""What the fields of a file may hold, as a table: for each a test, and the same in words.

A file is held against its table once, where it is read, so that one that was altered is named by
its field, and whoever goes on with it need not ask again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gpt2_tuning.checks import is_number, is_text, is_whole, shown


class Rule(NamedTuple):
    """What a field may hold."""

    holds: Callable[[Any], bool]
    words: str
    """What stands after "must be"."""


Schema = Mapping[str, Rule]


def whole(least: int, most: int) -> Rule:
    """A whole number in a range."""
    words = f"a whole number from {least} to {most}"
    return Rule(lambda value: is_whole(value, least, most), words)


def number(holds: Callable[[float], bool], words: str) -> Rule:
    """A number for which `holds` is true, which in words is `words`."""
    return Rule(lambda value: is_number(value) and holds(value), f"a number {words}")


TEXT = Rule(is_text, "a text")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")


def or_null(rule: Rule) -> Rule:
    """What a rule allows, or nothing."""
    return Rule(lambda value: value is None or rule.holds(value), f"null or {rule.words}")


def wrong_field(content: Mapping[str, Any], schema: Schema) -> str | None:
    """What is wrong with the first field that is, by its name; None where all are right.

    Fields that the table lacks, or the content, are not looked at.
    """
    for name, rule in schema.items():
        if name in content and not rule.holds(content[name]):
            return must_be(name, rule.words, content[name])
    return None


def must_be(field: str, what: str, found: object) -> str:
    """A field that is wrong, in words."""
    return f"{field} must be {what}, not {shown(found)}"

"""Which flags have an effect only beside others, and which flag a flag alone means.

The options of each script name their table; what is said is one line.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from gpt2_tuning.errors import UserError
from gpt2_tuning.flags import Given


class Need(NamedTuple):
    """What a flag needs to have an effect."""

    met: Callable[[Any], bool]
    """Whether options have it."""
    words: str
    """What it is, as it follows `--flag needs`."""


Needs = Mapping[str, Sequence[Need]]
"""By flag, in the order in which they are asked for."""
Implied = Mapping[str, tuple[str, Any]]
"""By flag the other one, and its value, that it means where that one is not given."""


@runtime_checkable
class WithNeeds(Protocol):
    """Options of which some flags need others."""

    NEEDS: Needs


@runtime_checkable
class WithImplied(Protocol):
    """Options of which some flags mean others."""

    IMPLIED: Implied


OptionsT = TypeVar("OptionsT")

RECORD = "options.yaml"
"""What a run notes its flags in: all of them, whether they were given or not."""


def with_implied(options: OptionsT, given: Sequence[Given]) -> tuple[OptionsT, list[str]]:
    """The options with what the flags that were given mean beside, and lines that say it."""
    names = {flag.name for flag in given}
    lines = [f"--{flag.name} is given twice: the last one counts" for flag in given if flag.again]
    implied = options.IMPLIED if isinstance(options, WithImplied) else {}
    for flag, (other, value) in implied.items():
        if flag in names and other not in names:
            names.add(other)
            if getattr(options, other) == value:
                continue
            options = dataclasses.replace(options, **{other: value})  # type: ignore[type-var]
            lines.append(f"--{flag} is taken to mean --{other} {value}")
    return options, lines


def check_effect(options: object, given: Sequence[Given]) -> None:
    """Raises UserError where a flag that was given has no effect, saying what it needs.

    A setting of a YAML file that is the flag's default was hardly meant as more than that, and none
    of a run's own record. What is resumed was begun with its flags.
    """
    if not isinstance(options, WithNeeds) or getattr(options, "resume", False):
        return
    defaults = {field.name: field.default for field in dataclasses.fields(options)}  # type: ignore
    for flag in given:
        is_default = getattr(options, flag.name) == defaults[flag.name]
        if flag.file and (is_default or flag.file.rpartition("/")[2] == RECORD):
            continue
        for need in options.NEEDS.get(flag.name, ()):
            if not need.met(options):
                raise UserError(f"{flag.shown} needs {need.words}")

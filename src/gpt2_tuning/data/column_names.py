"""The names of a file's columns: which there are, which are meant, which are wanted in vain."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OptionsT = TypeVar("OptionsT", bound="DataclassInstance")


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


def check_apart(text_columns: Sequence[str], label_column: str | None) -> None:
    """Raises UserError where two of these are one column."""
    named = [*text_columns, *([label_column] if label_column else [])]
    if len(set(named)) < len(named):
        raise UserError(f"texts and label need a column each, not {', '.join(named)}")


def usual_column(found: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first of the usual names that a column has, or else has but for case and blanks."""
    for name in usual:
        if name in found:
            return name
    alike = {name.strip().casefold(): name for name in reversed(found)}
    return next((alike[name] for name in map(str.casefold, usual) if name in alike), None)


def with_usual_columns(
    options: OptionsT, found: Sequence[str], usual: Mapping[str, Sequence[str]], notes: list[str]
) -> OptionsT:
    """The options with a name for each flag of a column that is not given.

    Args:
        options: the flags.
        found: the columns that there are.
        usual: for each flag the names that its column may have; the first is the plain case, and
            what is named where there is none of them.
        notes: what is taken but not the plain case is added.
    """
    chosen = {}
    for flag, names in usual.items():
        if getattr(options, flag) is None:
            chosen[flag] = usual_column(found, names) or names[0]
    odd = {flag: name for flag, name in chosen.items() if name != usual[flag][0]}
    notes += notes_on_columns(odd)
    return dataclasses.replace(options, **chosen)


def notes_on_columns(chosen: Mapping[str, str]) -> list[str]:
    """Which columns were taken for what, by the flags that name others, as a line if any were."""
    taken = [f"{name!r} for --{flag}" for flag, name in chosen.items()]
    return [f"columns taken by their names: {', '.join(taken)}"] if taken else []

"""From a label column of any kind to class names and class numbers."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError

HIDDEN = -1
"""How the Hub marks a class that is kept secret, as in GLUE's test splits."""
KINDS = ("int", "uint", "float", "bool", "string", "large_string", "null")
"""What the types that labels may have begin with."""
NOTHING = ("", "nan")
"""Texts, in small letters, that tools write where there is no value."""
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Labels(NamedTuple):
    """The classes, and those of the rows of each split."""

    names: list[str]
    numbers: dict[str, np.ndarray]
    """int64[rows] each: positions in the names."""
    trimmed: dict[str, np.ndarray]
    """bool[rows] each: whether blanks were cut from around the row's label."""


class SplitLabels(NamedTuple):
    """The labels of one split, each different value once."""

    values: list[Any]
    """Without blanks around: strings, integers or booleans."""
    names: list[str]
    """The names of the values."""
    numbers: np.ndarray
    """int64[rows]: the position of the row's value."""
    trimmed: np.ndarray
    """As Labels has it."""


def read_labels(splits: Mapping[str, Rows], column: str, signed: bool = True) -> Labels:
    """The classes, which are those of the train split, and each row's class.

    Class names keep the order that the data set gives them. Integers, and floats that are whole,
    become names in numeric order, booleans "false" and "true", and strings are sorted; blanks
    around names are cut.

    Args:
        splits: the rows, train among them; of each, all rows of its table.
        column: the column of the class.
        signed: whether an integer of -1 is a class; else it marks a row without one, as it always
            does where the data set names its classes.

    Raises:
        UserError: the labels are of another type; a row has none, or NaN, or one that is blank;
            there is but one class; validation or test has one that train has not.
    """
    found = {split: split_labels(rows, column, split, signed) for split, rows in splits.items()}
    names = class_names(splits["train"].class_names.get(column), found["train"], column)
    position = {name: number for number, name in enumerate(names)}
    numbers = {}
    for split, labels in found.items():
        row = first_row(labels.numbers, [name not in position for name in labels.names])
        if row is not None:
            name = labels.names[labels.numbers[row]]
            raise UserError(
                f"label {name!r} in row {row + 1} of {split} does not occur in train,"
                f" which has {', '.join(map(shown_name, names))}"
            )
        classes = np.array([position[name] for name in labels.names], np.int64)
        numbers[split] = classes[labels.numbers]
    if len(names) < 2:
        raise UserError(
            f"all rows of train have the label {names[0]!r} (column {column!r}):"
            " a classifier needs two classes or more"
        )
    return Labels(names, numbers, {split: labels.trimmed for split, labels in found.items()})


def class_names(given: Sequence[str] | None, train: SplitLabels, column: str) -> list[str]:
    """The names of all classes, in order: those that the data set gives, or else train's.

    Raises:
        UserError: a name that is given is blank, or two differ in the blanks around them at most.
    """
    if not given:
        if train.values and isinstance(train.values[0], bool):
            return ["false", "true"]
        return [str(value) for value in sorted(set(train.values))]
    first: dict[str, str] = {}
    for name in given:
        if not name.strip():
            raise UserError(f"column {column!r}: the data set gives a class the name {name!r}")
        if name.strip() in first:
            raise UserError(
                f"column {column!r}: the data set's classes {first[name.strip()]!r} and {name!r}"
                " are one but for blanks: give them different names"
            )
        first[name.strip()] = name
    return list(first)


def split_labels(rows: Rows, column: str, split: str, signed: bool) -> SplitLabels:
    """The labels of one split. Raises UserError as `read_labels` does."""
    kind, given = rows.kind(column), rows.class_names.get(column)
    if not kind.startswith(KINDS):
        raise UserError(
            f"column {column!r} of {split} holds {kind}: labels must be names or integers"
        )
    written, numbers = different(rows[column])
    # Older versions of pyarrow give NumPy's numbers for those of half precision.
    written = [float(value) if isinstance(value, np.floating) else value for value in written]
    values = list(map(without_blanks, written))
    if rows.untyped:
        values = typed(values)
    values = list(map(whole, values))
    absent = {None, HIDDEN} if given or not signed else {None}
    row = first_row(numbers, [value in absent for value in values])
    if row is not None:
        value, hidden = written[numbers[row]], values[numbers[row]] == HIDDEN
        blank = value is None or (isinstance(value, str) and not value.strip())
        found = "" if blank else f" holds {HIDDEN if hidden else repr(value)}"
        raise UserError(
            f"row {row + 1} of {split} has no label (column {column!r}{found}):"
            " give it one, or take the row out"
        )
    row = first_row(numbers, [isinstance(value, float) for value in values])
    if row is not None:
        raise UserError(
            f"column {column!r} of {split} holds {written[numbers[row]]} in row {row + 1}:"
            " labels must be names or integers"
        )
    if given:
        row = first_row(numbers, [not 0 <= value < len(given) for value in values])
        if row is not None:
            raise UserError(
                f"column {column!r} of {split} holds {values[numbers[row]]} in row {row + 1}, but"
                f" the data set names {len(given)} classes, 0 to {len(given) - 1}"
            )
        written = [given[value] for value in values]
        names = [name.strip() for name in written]
    else:
        names = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    trimmed = [isinstance(value, str) and value != value.strip() for value in written]
    return SplitLabels(values, names, numbers, np.array(trimmed, bool)[numbers])


def different(values: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """The different values, and int64[rows]: the position among them of each row's."""
    position: dict[Any, int] = {}
    numbers = [position.setdefault(value, len(position)) for value in values]
    return list(position), np.array(numbers, np.int64)


def first_row(numbers: np.ndarray, wrong: Sequence[bool]) -> int | None:
    """The first row, counted from 0, whose value is among the wrong ones; None if no row's is."""
    found = np.flatnonzero(np.array(wrong, bool)[numbers])
    return int(found[0]) if len(found) else None


def without_blanks(value: Any) -> Any:
    """A label without blanks around it, or None where it says that there is none."""
    if isinstance(value, str):
        value = value.strip()
        return None if value.lower() in NOTHING else value
    return None if value != value else value  # NaN


def typed(values: Sequence[str | None]) -> list[Any]:
    """Labels from a format without types, each as the one type that fits them all."""
    present = [value for value in values if value is not None]
    convert: Callable[[str], Any] = str
    if all(map(INTEGER.fullmatch, present)):
        convert = int
    elif all(INTEGER.fullmatch(value) or DECIMAL.fullmatch(value) for value in present):
        convert = float
    elif all(value.lower() in ("false", "true") for value in present):
        convert = is_true
    return [None if value is None else convert(value) for value in values]


def is_true(value: str) -> bool:
    """Whether a cell says true."""
    return value.lower() == "true"


def whole(value: Any) -> Any:
    """The integer that a whole float means, as pandas writes 1.0 for 1; else the value itself."""
    exact = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    return int(value) if exact else value


def shown_name(name: str) -> str:
    """A class's name for people to read: in quotes where one would not see where it ends."""
    quoted = not name.isprintable() or any(map(str.isspace, name))
    return json.dumps(name, ensure_ascii=False) if quoted else name


def hidden_labels(rows: Rows, column: str) -> bool:
    """Whether the split names its classes but keeps every row's secret."""
    return column in rows.class_names and set(rows[column]) == {HIDDEN}

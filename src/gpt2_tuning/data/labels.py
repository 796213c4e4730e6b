"""From a label column of any kind to class names and class numbers."""

from collections.abc import Mapping

import numpy as np

from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError

HIDDEN = -1
"""How the Hub marks a class that is kept secret, as in GLUE's test splits."""


def read_labels(
    splits: Mapping[str, Rows], column: str, signed: bool = True
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The classes, which are those of the train split, and each row's class.

    Class names keep the order that the data set gives them. Integers become names in numeric
    order, booleans "false" and "true", and strings are sorted.

    Args:
        splits: the rows, train among them.
        column: the column of the class.
        signed: whether an integer of -1 is a class; else it marks a row without one, as it always
            does where the data set names its classes.

    Returns:
        The names, and for each split an int64[rows] of positions in the names.

    Raises:
        UserError: the labels are of another type (as floats are); a row has none; validation or
            test has one that train has not.
    """
    given = {split: named_labels(rows, column, split, signed) for split, rows in splits.items()}
    train = splits["train"]
    kind = train.kind(column)
    if column in train.class_names:
        names = list(train.class_names[column])
    elif kind in ("string", "large_string"):
        names = sorted(set(given["train"]))
    elif kind == "bool":
        names = ["false", "true"]
    else:
        names = sorted(set(given["train"]), key=int)
    position = {name: number for number, name in enumerate(names)}
    labels = {}
    for split, values in given.items():
        numbers = [position.get(name) for name in values]
        if None in numbers:
            row = numbers.index(None)
            raise UserError(
                f"label {values[row]!r} in row {row + 1} of {split} does not occur in train,"
                f" which has {', '.join(names)}"
            )
        labels[split] = np.array(numbers, np.int64)
    return names, labels


def named_labels(rows: Rows, column: str, split: str, signed: bool) -> list[str]:
    """Each row's label as a name. Raises UserError as `read_labels` does."""
    kind, named = rows.kind(column), rows.class_names.get(column)
    if not named and not kind.startswith(("int", "uint", "bool", "string", "large_string", "null")):
        raise UserError(
            f"column {column!r} of {split} holds {kind}: labels must be names or integers"
        )
    values = rows[column]
    absent = {None, HIDDEN} if named or not signed else {None}
    row = next((row for row, value in enumerate(values) if value in absent), None)
    if row is not None:
        found = "" if values[row] is None else f" holds {HIDDEN}"
        raise UserError(f"row {row + 1} of {split} has no label (column {column!r}{found})")
    if named:
        return [named[value] for value in values]
    if kind == "bool":
        return ["true" if value else "false" for value in values]
    return list(map(str, values))


def hidden_labels(rows: Rows, column: str) -> bool:
    """Whether the split names its classes but keeps every row's secret."""
    return column in rows.class_names and set(rows[column]) == {HIDDEN}

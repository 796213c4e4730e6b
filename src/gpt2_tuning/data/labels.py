"""From a label column of any kind to class names and class numbers."""

from collections.abc import Mapping

import datasets
import numpy as np

from gpt2_tuning.errors import UserError

HIDDEN = -1
"""How `datasets` marks a class that is kept secret, as in GLUE's test splits."""


def read_labels(
    splits: Mapping[str, datasets.Dataset], column: str, signed: bool = True
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
    feature = splits["train"].features[column]
    if isinstance(feature, datasets.ClassLabel):
        names = list(feature.names)
    elif feature.dtype in ("string", "large_string"):
        names = sorted(set(given["train"]))
    elif feature.dtype == "bool":
        names = ["false", "true"]
    else:
        names = sorted(set(given["train"]), key=int)
    position = {name: number for number, name in enumerate(names)}
    labels = {}
    for split, values in given.items():
        for row, name in enumerate(values, start=1):
            if name not in position:
                raise UserError(
                    f"label {name!r} in row {row} of {split} does not occur in train,"
                    f" which has {', '.join(names)}"
                )
        labels[split] = np.array([position[name] for name in values], np.int64)
    return names, labels


def named_labels(rows: datasets.Dataset, column: str, split: str, signed: bool) -> list[str]:
    """Each row's label as a name. Raises UserError as `read_labels` does."""
    feature = rows.features[column]
    kind = getattr(feature, "dtype", "lists")
    named = isinstance(feature, datasets.ClassLabel)
    if not named and not kind.startswith(("int", "uint", "bool", "string", "large_string", "null")):
        raise UserError(
            f"column {column!r} of {split} holds {kind}: labels must be names or integers"
        )
    names = []
    for row, value in enumerate(rows[column][:], start=1):
        if value is None or (value == HIDDEN and (named or not signed)):
            found = "" if value is None else f" holds {HIDDEN}"
            raise UserError(f"row {row} of {split} has no label (column {column!r}{found})")
        if named:
            value = feature.names[value]
        elif kind == "bool":
            value = "true" if value else "false"
        names.append(str(value))
    return names


def hidden_labels(rows: datasets.Dataset, column: str) -> bool:
    """Whether the split names its classes but keeps every row's secret."""
    named = isinstance(rows.features.get(column), datasets.ClassLabel)
    return named and set(rows.unique(column)) == {HIDDEN}

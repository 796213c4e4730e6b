"""Texts and labels as a user's script gives them, in lists: what is wrong with one is said.

`what` names what a list holds, such as `text` or `response`, in the messages.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gpt2_tuning.errors import UserError


def checked_texts(what: str, texts: Sequence[str]) -> list[str]:
    """The texts as a list. Raises UserError where there is none, or one of them is empty."""
    if isinstance(texts, str):
        raise UserError(f"{what}s must be a list of texts, not one text")
    texts = list(texts)
    if not texts:
        raise UserError(f"there is no {what}")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise UserError(f"{what} {number} is of type {type(text).__name__}, not a text")
        if not text.strip():
            raise UserError(f"{what} {number} is empty: give it a text, or take it out")
    return texts


def check_as_many(what: str, count: int, others: str, wanted: int) -> None:
    """Raises UserError where two lists are of different lengths."""
    if count != wanted:
        raise UserError(f"there are {count} {what}s for {wanted} {others}s: give one for each")


def class_numbers(
    labels: Iterable[Any], label_names: Sequence[str] | None, what: str, count: int
) -> list[int]:
    """Each label's class, from 0. Raises UserError where a label is none."""
    labels = list(labels)
    check_as_many("label", len(labels), what, count)
    names = None if label_names is None else list(label_names)
    numbers = []
    for number, label in enumerate(labels, start=1):
        if isinstance(label, str):
            if names is None:
                raise UserError("labels are names: give label_names, such as model.label_names")
            position = names.index(label) if label in names else -1
        elif isinstance(label, int | np.integer) and not isinstance(label, bool):
            position = int(label)
        else:
            raise UserError(f"label {label!r} of {what} {number} is neither a name nor an integer")
        if not 0 <= position < (np.inf if names is None else len(names)):
            known = "0, 1, ..." if names is None else ", ".join(names)
            raise UserError(
                f"label {label!r} of {what} {number} is unknown: the classes are {known}"
            )
        numbers.append(position)
    return numbers

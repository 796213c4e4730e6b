"""A checkpoint's classifier head for a model whose classes may be others, or in another order."""

import collections
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt2_tuning.checks import is_text, is_whole, shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import FAMILIES
from gpt2_tuning.formats.directory import CONFIG_FILE, Checkpoint

HEAD = "score.weight"
SHOWN = 6
"""Names of classes in a message; others are left out."""


class Match(NamedTuple):
    """How a model takes a checkpoint's head."""

    rows: list[int] | None
    """The head's rows in the order of the model's classes; None leaves the model's own head."""
    label_names: list[str]
    """The model's from then on."""
    note: str | None
    """What a user should know of it, on one line."""


def match(mine: Sequence[str], theirs: Sequence[str], given: bool = True) -> Match:
    """Same names: by name. As many, without names of their own on a side: in order. Else not.

    mine ["no", "yes"] and theirs ["yes", "no"] gives the rows [1, 0].

    Args:
        mine: the model's classes; all different.
        theirs: the checkpoint's; all different.
        given: whether the model's names were given to it, and stay; else it may take the
            checkpoint's for its `LABEL_0` and so on.
    """
    mine, theirs = list(mine), list(theirs)
    in_order = list(range(len(mine)))
    if mine == theirs:
        return Match(in_order, mine, None)
    if sorted(mine) == sorted(theirs):
        note = f"its classes are in the order {listed(theirs)}: the head's are matched by name"
        return Match([theirs.index(name) for name in mine], mine, note)
    if len(mine) == len(theirs) and unnamed(len(mine)) in (mine, theirs):
        names = mine if given else theirs
        note = f"its head's classes are kept in order, as {listed(names)}"
        return Match(in_order, names, note)
    note = f"its classes are {listed(theirs)}, not {listed(mine)}: a new head begins at random"
    return Match(None, mine, note)


def unnamed(number: int) -> list[str]:
    """What classes without names of their own are called, here and by transformers."""
    return [f"LABEL_{index}" for index in range(number)]


def classes_of(number: Any, names: Any) -> list[str]:
    """The names of a new classifier's classes, of which the number, the names or both are given.

    Raises:
        UserError: they are not two or more texts, all different, or the two disagree.
    """
    if number is None and names is None:
        raise UserError('a classifier needs num_classes, or label_names such as ["no", "yes"]')
    number = int(number) if isinstance(number, np.integer) else number
    if number is not None and not is_whole(number, 2):
        raise UserError(f"a classifier needs two classes or more: num_classes is {shown(number)}")
    found = unnamed(number) if names is None else checked_names(names)
    if number not in (None, len(found)):
        raise UserError(f"num_classes is {number}, label_names has {len(found)}: {listed(found)}")
    return found


def checked_names(names: Any) -> list[str]:
    """The names of a classifier's classes as a list.

    Raises:
        UserError: they are not two or more texts, all different.
    """
    if is_text(names) or not isinstance(names, Collection) or not all(map(is_text, names)):
        raise UserError(f'label_names must be a list, such as ["no", "yes"], not {shown(names)}')
    if len(set(names)) < max(2, len(names)):
        raise UserError(
            f"a classifier needs two classes or more, all different, not {shown(list(names))}"
        )
    return list(names)


def listed(names: Sequence[str]) -> str:
    """The names, or the first of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def is_classifier(fields: dict[str, Any]) -> bool:
    """Whether config.json promises a classifier's head."""
    found = fields.get("architectures")
    classifiers = {family.architectures.classifier for family in FAMILIES.values()}
    return isinstance(found, list) and any(name in classifiers for name in found if is_text(name))


def label_names(checkpoint: Checkpoint) -> list[str] | None:
    """The names of a checkpoint's classes, in the order of its head's rows; None without a head.

    Raises:
        UserError: `id2label` in its config.json is malformed or does not fit the head, or the head
            is missing.
    """
    head = checkpoint.weights.get(HEAD)
    if head is None:
        if is_classifier(checkpoint.fields):
            raise UserError(f"{checkpoint.directory}: {HEAD} is missing, though it is a classifier")
        return None
    number = head.shape[0] if head.shape else 0
    found = checkpoint.fields.get("id2label")
    if found is None:  # transformers leaves out the names of two unnamed classes
        return unnamed(number)
    try:
        names = names_by_index(found)
        if len(names) != number:
            raise UserError(f"names {len(names)} classes; {HEAD} has {number}")
    except UserError as error:
        raise UserError(f"{checkpoint.directory / CONFIG_FILE}: id2label {error}") from error
    return names


def names_by_index(found: Any) -> list[str]:
    """The names of an `id2label` such as {"0": "no", "1": "yes"}.

    Raises:
        UserError: saying what is wrong with it.
    """
    if not isinstance(found, dict):
        raise UserError(f"is {shown(found)}, not an object of names by number")
    indices = [str(index) for index in range(len(found))]
    if set(found) != set(indices):
        raise UserError(f"has the keys {listed(list(found))}, not the numbers from 0 on")
    names = [found[index] for index in indices]
    if not all(map(is_text, names)):
        raise UserError(f"has a name that is no text: {shown(names)}")
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise UserError(f"has the name {name!r} more than once")
    return names


def agreed_labels(mine: Sequence[str], names: list[str] | None) -> list[str] | None:
    """The names of an adapter's classes that a model must take over, None where it keeps its own.

    Raises:
        UserError: both have names of their own, and they differ.
    """
    mine = list(mine)
    generic = unnamed(len(mine))
    if names is None or names in (mine, generic):
        return None
    if mine != generic:
        raise UserError(
            f"the adapter's classes are {', '.join(names)}; the model's are {', '.join(mine)}"
        )
    return names

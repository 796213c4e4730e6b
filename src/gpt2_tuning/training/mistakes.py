"""The wrong answers that a classifier was surest of: where to look first, at labels too."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.markdown import escaped, excerpt, table

SHOWN = 5
LONGEST = 240
"""Characters that a table shows of a text."""
TEXTS = {1: ("text",), 2: ("premise", "hypothesis")}
"""What an example's texts are called, by how many it has."""


class Mistake(NamedTuple):
    """An example that was labelled wrongly."""

    texts: tuple[str, ...]
    """As the model saw them, which may be cut."""
    label: str
    predicted: str
    probability: float
    """Of what was predicted."""


def surest_mistakes(
    records: Records,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    tokenizer: Tokenizer,
    count: int = SHOWN,
) -> list[Mistake]:
    """The wrong answers of the highest probability, the surest first; fewer where there are fewer.

    Args:
        records: the split, with its labels.
        probabilities: of the classes, [N, classes].
        label_names: the classes.
        tokenizer: that of the data.
        count: how many at most.
    """
    labels, predicted = records.columns["label"], probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]
    return [
        Mistake(
            texts_of(records.row(row).tolist(), tokenizer),
            label_names[labels[row]],
            label_names[predicted[row]],
            float(probabilities[row].max()),
        )
        for row in surest
    ]


def texts_of(token_ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts of an example, which the separator keeps apart where there are two."""
    parts = itertools.groupby(token_ids, lambda token: token == tokenizer.separator)
    return tuple(tokenizer.decode(list(ids)) for apart, ids in parts if not apart)


def mistakes_table(mistakes: Sequence[Mistake]) -> str:
    """At least one mistake as a table in Markdown, whatever the texts hold."""
    headings = TEXTS[len(mistakes[0].texts)]
    return table(
        [*headings, "true", "predicted", "probability"],
        (
            [
                *(excerpt(text, LONGEST) for text in mistake.texts),
                escaped(mistake.label),
                escaped(mistake.predicted),
                f"{mistake.probability:.3f}",
            ]
            for mistake in mistakes
        ),
    )

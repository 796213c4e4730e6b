"""Labels for people and for files: printed, asked for one after another, or row by row."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from gpt2_tuning.inference.answering import Fields, FileToAnswer, InputColumns, asked
from gpt2_tuning.inference.classification import Prediction
from gpt2_tuning.models.gate import Choice

ADDED = ("prediction", "probabilities")
"""The columns that labelling adds to a file."""
BATCHES_AT_ONCE = 16
"""Batches that are labelled, and written down, together."""


class Predict(Protocol):
    """A function that labels examples; `first_row` is the number of those before them."""

    def __call__(
        self,
        examples: Sequence[Fields],
        *,
        first_row: int = 0,
        adapters: Sequence[Choice] | None = None,
    ) -> list[Prediction]:
        """A prediction for each."""


def print_predictions(examples: Sequence[Fields], predict: Predict) -> None:
    """Prints each example with its label and every class's probability, the likeliest first."""
    for fields, prediction in zip(examples, predict(examples), strict=True):
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.3f}" for name, share in ranked)
        print(f"{' | '.join(fields)}\n  {prediction.label}  ({shares})")


def print_under_adapters(
    examples: Sequence[Fields], adapters: Mapping[str, Choice], predict: Predict
) -> None:
    """Prints each example with the label and its probability under each adapter, side by side.

    All are computed together. `adapters` are those of the model, by what they are called here.
    """
    rows = [(fields, choice) for fields in examples for choice in adapters.values()]
    found = iter(predict([fields for fields, _ in rows], adapters=[choice for _, choice in rows]))
    table = Table("text", *adapters, show_lines=True)
    for fields in examples:
        labels = [
            f"{one.label}  ({one.probabilities[one.label]:.3f})"
            for one in itertools.islice(found, len(adapters))
        ]
        table.add_row("\n".join(fields), *labels)
    Console().print(table, markup=False)


def label_file(file: FileToAnswer, predict: Predict) -> None:
    """Adds the columns of ADDED to every row of a file."""
    file.answer(functools.partial(labels, predict))


def labels(predict: Predict, examples: Sequence[Fields], first_row: int) -> list[dict[str, Any]]:
    """What is added to the rows of a file."""
    return [
        {"prediction": found.label, "probabilities": found.probabilities}
        for found in predict(examples, first_row=first_row)
    ]


def ask(columns: InputColumns, predict: Predict) -> None:
    """Labels what is typed at the terminal, until an empty line or Ctrl-D."""
    for fields in asked(columns):
        print_predictions([fields], predict)

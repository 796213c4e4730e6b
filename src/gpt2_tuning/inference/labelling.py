"""Labels for people and for files: printed, asked for one after another, or row by row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.inference.answering import Fields, answer_file, asked
from gpt2_tuning.inference.classification import Prediction

Predict = Callable[[Sequence[Fields]], list[Prediction]]


def print_predictions(examples: Sequence[Fields], predict: Predict) -> None:
    """Prints each example with its label and every class's probability, the likeliest first."""
    for fields, prediction in zip(examples, predict(examples), strict=True):
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.3f}" for name, share in ranked)
        print(f"{' | '.join(fields)}\n  {prediction.label}  ({shares})")


def label_file(source: Path, output: Path | None, columns: Sequence[str], predict: Predict) -> None:
    """Adds `prediction` and `probabilities` to every row of a file: see `answer_file`."""

    def answers(examples: Sequence[Fields]) -> list[dict[str, Any]]:
        return [
            {"prediction": found.label, "probabilities": found.probabilities}
            for found in predict(examples)
        ]

    answer_file(source, output, columns, answers)


def ask(prompts: Sequence[str], predict: Predict) -> None:
    """Labels what is typed at the terminal, until an empty line or Ctrl-D."""
    for fields in asked(prompts):
        print_predictions([fields], predict)

"""Tunes a GPT-2 to classify texts: `gpt2-tuning train classification --model_size 124M`.

Full tuning is the default here: a classifier of short texts learns more from it than from LoRA,
and costs little. `--lora_rank 8` tunes adapters and the head instead.
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning import cli
from gpt2_tuning.options.training import ClassifierOptions

TASK = "classification"


@dataclasses.dataclass(frozen=True)
class Options(ClassifierOptions):
    """Tunes a GPT-2 on prepared texts and their labels."""

    lora_rank: int = 0
    """Rank of the LoRA update; 0 tunes every weight."""
    epochs: int = 4
    """Passes over the training rows."""
    batch_size: int = 16
    """Examples in one update, over all devices."""


def train(options: Options) -> None:
    """Trains on the train split, keeps what does best on validation, and reports."""
    from gpt2_tuning.training.classifier import train_classifier

    train_classifier(options, TASK, title="Text classifier", example='--text "..."')


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, train, argv, program)

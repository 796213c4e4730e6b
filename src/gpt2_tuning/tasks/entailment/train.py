"""Tunes a GPT-2 to decide on pairs of texts: `gpt2-tuning train entailment`.

LoRA is the default here: RTE has 2,490 pairs to learn from, with which tuning every weight soon
learns them by heart. `--lora_rank 0` does it all the same.
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning import cli
from gpt2_tuning.options.training import ClassifierOptions

TASK = "entailment"


@dataclasses.dataclass(frozen=True)
class Options(ClassifierOptions):
    """Tunes a GPT-2 on prepared pairs and their labels."""

    epochs: int = 10
    """Passes over the training pairs."""
    batch_size: int = 16
    """Pairs in one update, over all devices."""
    patience: int | None = 3
    """Stop after this many validations without improvement; None never stops early."""


def train(options: Options) -> None:
    """Trains on the train split, keeps what does best on validation, and reports."""
    from gpt2_tuning.training.classifier import train_classifier

    train_classifier(
        options,
        TASK,
        title="Classifier of pairs of texts",
        example='--premise "..." --hypothesis "..."',
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, train, argv, program)

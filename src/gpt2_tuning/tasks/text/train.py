"""Tunes a GPT-2 on plain text: `gpt2-tuning train text --model_size 124M`.

This is how a base learns a domain before it is instructed: every token is learnt, and every weight
is tuned unless `--lora_rank` says otherwise.
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning import cli
from gpt2_tuning.options.training import LanguageModelOptions

TASK = "text"


@dataclasses.dataclass(frozen=True)
class Options(LanguageModelOptions):
    """Tunes a GPT-2 on prepared plain text."""

    lora_rank: int = 0
    """Rank of the LoRA update; 0 tunes every weight."""


def train(options: Options) -> None:
    """Trains on the train split, keeps what does best on validation, and reports."""
    from gpt2_tuning.training.language_model import train_language_model

    train_language_model(
        options, TASK, title="Language model of a domain", example='--prompt "..."'
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, train, argv, program)

"""Tunes a GPT-2 to follow instructions: `gpt2-tuning train instruction --model_size 124M`.

LoRA is the default: a pretrained GPT-2 knows the language, and adapters teach it the form.
`--lora_rank 0` tunes every weight.
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning import cli
from gpt2_tuning.options.training import LanguageModelOptions

TASK = "instruction"


@dataclasses.dataclass(frozen=True)
class Options(LanguageModelOptions):
    """Tunes a GPT-2 on prepared instructions and their responses."""


def train(options: Options) -> None:
    """Trains on the train split, keeps what does best on validation, and reports."""
    from gpt2_tuning.training.language_model import train_language_model

    train_language_model(options, TASK, title="Instruction follower", example='--prompt "..."')


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, train, argv, program)

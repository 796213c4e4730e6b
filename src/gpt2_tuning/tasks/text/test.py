"""Lets a tuned model write on: `gpt2-tuning test text --prompt "The harbour was"`."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from gpt2_tuning import cli
from gpt2_tuning.needs import Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.testing import GenerationOptions

TASK = "text"


@dataclasses.dataclass(frozen=True)
class Options(GenerationOptions):
    """Continues texts with a tuned model, or scores it on its test split."""

    NEEDS: ClassVar[Needs] = effects.CONTINUATION

    prompt_column: str = "prompt"
    """Column of --input that holds the beginning of a text."""

    @property
    def writes(self) -> bool:
        """Whether anything is generated; scoring plain text does not."""
        return bool(self.prompt or self.input or self.interactive)


def test(options: Options) -> None:
    """Rebuilds the run's model and does what the flags ask for."""
    from gpt2_tuning.inference.answering import InputColumns
    from gpt2_tuning.tasks.try_language_model import try_language_model

    examples = [(prompt,) for prompt in options.prompt]
    try_language_model(options, TASK, examples, InputColumns((options.prompt_column,)))


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, test, argv, program)

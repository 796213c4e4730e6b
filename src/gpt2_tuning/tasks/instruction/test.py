"""Talks to a tuned model: `gpt2-tuning test instruction --prompt "Name three birds."`."""

import dataclasses
from collections.abc import Sequence

import tyro

from gpt2_tuning import cli
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.testing import GenerationOptions

TASK = "instruction"


@dataclasses.dataclass(frozen=True)
class Options(GenerationOptions):
    """Responds to instructions with a tuned model, or scores it on its test split."""

    context: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What a prompt is about; one for each --prompt, or none."""
    instruction_column: str = "instruction"
    """Column of --input that holds the instruction."""
    context_column: str = "context"
    """Column of --input that holds the context; it may be missing."""

    def check(self) -> None:
        """Raises UserError when there is nothing to do, or a value is out of its range."""
        super().check()
        if self.context and len(self.context) != len(self.prompt):
            raise UserError(
                f"--context goes with --prompt, one for each: {len(self.context)} and "
                f"{len(self.prompt)} were given"
            )


def test(options: Options) -> None:
    """Rebuilds the run's model and does what the flags ask for."""
    from gpt2_tuning.inference.answering import InputColumns
    from gpt2_tuning.tasks.try_language_model import try_language_model

    contexts = options.context or ("",) * len(options.prompt)
    examples = list(zip(options.prompt, contexts, strict=True))
    columns = InputColumns((options.instruction_column,), (options.context_column,))
    try_language_model(options, TASK, examples, columns)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, test, argv, program)

"""Tries a tuned classifier: `gpt2-tuning test classification --text "i feel great"`."""

import dataclasses
from collections.abc import Sequence

import tyro

from gpt2_tuning import cli
from gpt2_tuning.options.testing import LabelOptions

TASK = "classification"


@dataclasses.dataclass(frozen=True)
class Options(LabelOptions):
    """Labels texts with a tuned classifier, or scores it on its test split."""

    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A text to label; may be given several times."""
    text_column: str = "text"
    """Column of --input that holds the text."""

    def texts(self) -> dict[str, tuple[str, ...]]:
        """What is to be labelled."""
        return {"text": self.text}


def test(options: Options) -> None:
    """Rebuilds the run's model and does what the flags ask for."""
    from gpt2_tuning.tasks.try_classifier import try_classifier

    try_classifier(options, TASK, columns=[options.text_column])


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, test, argv, program)

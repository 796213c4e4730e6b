"""Tries a tuned classifier of pairs: `gpt2-tuning test entailment --evaluate`."""

import dataclasses
from collections.abc import Sequence

import tyro

from gpt2_tuning import cli
from gpt2_tuning.options.testing import LabelOptions

TASK = "entailment"


@dataclasses.dataclass(frozen=True)
class Options(LabelOptions):
    """Labels pairs of texts with a tuned classifier, or scores it on its test split."""

    premise: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The first text of a pair to label; may be given several times."""
    hypothesis: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The second text: as many as --premise, paired in order."""
    premise_column: str = "premise"
    """Column of --input that holds the first text."""
    hypothesis_column: str = "hypothesis"
    """Column of --input that holds the second text."""

    def texts(self) -> dict[str, tuple[str, ...]]:
        """What is to be labelled."""
        return {"premise": self.premise, "hypothesis": self.hypothesis}


def test(options: Options) -> None:
    """Rebuilds the run's model and does what the flags ask for."""
    from gpt2_tuning.tasks.try_classifier import try_classifier

    try_classifier(options, TASK, columns=[options.premise_column, options.hypothesis_column])


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, test, argv, program)

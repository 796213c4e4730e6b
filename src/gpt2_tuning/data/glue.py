"""The labelled pair tasks of GLUE: their columns, their validation split, their official figure.

GLUE: Wang et al. 2019, https://arxiv.org/abs/1804.07461. Class names are not kept here: they come
from the data.
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning.data.column_names import usual_column
from gpt2_tuning.errors import UserError

HUB_NAME = "nyu-mll/glue"


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """What there is to know of one configuration beforehand."""

    text_columns: tuple[str, str]
    """The two texts, in their order."""
    f1: bool = False
    """Whether GLUE scores F1 of the second class beside accuracy."""
    suffix: str = ""
    """What the names of validation and test end in."""

    @property
    def split_names(self) -> dict[str, str]:
        """What the Hub calls validation and test."""
        return {split: split + self.suffix for split in ("validation", "test")}


PAIR_TASKS = {
    "rte": GlueTask(("sentence1", "sentence2")),
    "mrpc": GlueTask(("sentence1", "sentence2"), f1=True),
    "qnli": GlueTask(("question", "sentence")),
    "qqp": GlueTask(("question1", "question2"), f1=True),
    "wnli": GlueTask(("sentence1", "sentence2")),
    "mnli": GlueTask(("premise", "hypothesis"), suffix="_matched"),
}

TEXT_COLUMNS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("#1 String", "#2 String"),
)
"""What pairs are called on the Hub and in GLUE's own files."""
LABEL_COLUMNS = ("label", "gold_label", "is_duplicate", "Quality")
"""What their class is called there."""


def usual_pair(found: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The first of the pairs of which there are both columns, or else the first of all."""
    both = (pair for pair in pairs if all(usual_column(found, [name]) for name in pair))
    return next(both, pairs[0])


def pair_task(config: str) -> GlueTask:
    """The task of a configuration. Raises UserError when it is none of labelled pairs."""
    if config not in PAIR_TASKS:
        known = ", ".join(PAIR_TASKS)
        raise UserError(f"--dataset_config {config} is no pair task of {HUB_NAME}: choose {known}")
    return PAIR_TASKS[config]


def scores_f1(dataset_name: str) -> bool:
    """Whether F1 is an official figure of a data set, by its name in metadata.json."""
    name, _, config = dataset_name.rpartition("/")
    return name == HUB_NAME and config in PAIR_TASKS and PAIR_TASKS[config].f1

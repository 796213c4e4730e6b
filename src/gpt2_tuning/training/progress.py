"""Where a run is, but for its variables: what goes into a checkpoint beside them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpt2_tuning.training.steps import add


@dataclasses.dataclass
class Progress:
    """Where a run is. All of it goes into a checkpoint."""

    epoch: int = 0
    step: int = 0
    """Batches of this epoch that are done."""
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """What the batches since the last validation have added up to."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """One row of figures for each validation."""
    best: int | None = None
    """The validation, counted from 1, whose weights did best."""
    best_sha256: str | None = None
    """Of the file that holds those weights."""
    stopped: bool = False
    """Whether validation stopped improving for too long."""
    unlogged: dict[str, float] = dataclasses.field(default_factory=dict)
    """What the batches since TensorBoard's last point have added up to."""

    def advance(self, steps: int) -> None:
        """One more batch is done, where an epoch has so many `steps`."""
        if self.step == steps:
            self.epoch, self.step = self.epoch + 1, 0
        self.step += 1

    def add(self, more: Mapping[str, float]) -> None:
        """Adds to the sums what a batch gave."""
        add(self.sums, more)
        add(self.unlogged, more)

    def updates(self, steps: int) -> int:
        """Updates that are done since the run's start, where an epoch has so many `steps`."""
        return self.epoch * steps + self.step

    def best_row(self) -> dict[str, float]:
        """The figures of the best validation; of the last one where none is known to be."""
        return self.history[(self.best or len(self.history)) - 1]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Progress":
        """The progress that a checkpoint holds.

        One of before runs were validated inside an epoch counts its best validation in epochs, and
        has no number of batches in its sums.

        Raises:
            TypeError: a later version wrote it.
        """
        fields = dict(fields)
        if "best_epoch" in fields:
            fields["best"] = fields.pop("best_epoch")
        progress = cls(**fields)
        if progress.sums:
            progress.sums.setdefault("updates", progress.step)
        return progress

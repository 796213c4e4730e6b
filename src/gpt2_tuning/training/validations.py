"""When a run is validated, which of its validations is the best, and when it ends.

All of that follows from the flags and the history, so a resumed run decides as if left alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.progress import Progress
from gpt2_tuning.training.steps import MEANS


@dataclasses.dataclass(frozen=True)
class Validations:
    """The validations of one run."""

    options: TrainOptions
    steps: int
    """Updates in an epoch."""

    @property
    def updates(self) -> int:
        """Updates in the whole run."""
        return self.options.updates(self.steps)

    def epochs(self, update: int) -> float:
        """How many epochs so many updates are: whole ones as an integer, others rounded."""
        whole, rest = divmod(update, self.steps)
        return round(update / self.steps, 4) if rest else whole

    def next_update(self, history: Sequence[Mapping[str, float]]) -> int:
        """The update that the next validation follows, which may be done already."""
        every = self.options.validate_every or self.steps
        last = int(history[-1]["update"]) if history else 0
        return min((last // every + 1) * every, self.updates)

    def finished(self, progress: Progress) -> bool:
        """Whether all updates are done and validated, or as many as it took to stop."""
        history = progress.history
        return progress.stopped or bool(history and history[-1]["update"] >= self.updates)

    def row(
        self, update: int, trained: Mapping[str, float], validation: Mapping[str, float]
    ) -> dict[str, float]:
        """A validation, as metrics.csv has it.

        Args:
            update: updates that are done.
            trained: how those since the last validation went.
            validation: the figures on the validation split.
        """
        return {
            "epoch": self.epochs(update),
            "update": update,
            **{name: trained[name] for name in MEANS},
            **{f"val_{name}": value for name, value in validation.items()},
            **{name: value for name, value in trained.items() if name not in MEANS},
        }

    def record(self, progress: Progress, row: dict[str, float]) -> bool:
        """Adds a validation to the progress; returns whether it is the best so far.

        It is where it does better in what `--monitor` names, or as well with a lower loss; the
        first one always is. The run stops where too many have not been since the best.
        """
        history = progress.history
        history.append(row)
        improved = progress.best is None or self.rank(row) > self.rank(history[progress.best - 1])
        if improved:
            progress.best = len(history)
        patience = self.options.patience
        waited = len(history) - (progress.best or 0)
        progress.stopped = patience is not None and waited > patience
        return improved

    def rank(self, row: Mapping[str, float]) -> tuple[float, float]:
        """Of two validations the better one has the higher rank."""
        monitor = self.options.monitor
        sign = -1 if monitor.endswith("loss") else 1
        return sign * row[monitor], -row["val_loss"]

    def with_updates(self, history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """A history in which each row has its update, which those of older runs have not."""
        return [
            {"epoch": row["epoch"], "update": row["epoch"] * self.steps, **row} for row in history
        ]

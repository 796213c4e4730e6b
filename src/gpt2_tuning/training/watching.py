"""What a person sees of a run under way: one progress line, metrics.csv, TensorBoard."""

import csv
import io
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gpt2_tuning.files import write_text
from gpt2_tuning.training.checkpoint import Progress as RunProgress

METRICS_FILE = "metrics.csv"


class EpochWatcher:
    """Shows and records a run's progress; to be used as a context manager.

    metrics.csv is written anew from the run's history after every epoch, so a resumed run, or one
    whose file was cut short, has every row once.
    """

    def __init__(self, run_dir: Path, epochs: int, steps: int):
        self.run_dir, self.epochs, self.steps = run_dir, epochs, steps
        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=epochs * steps)
        self.board = tf.summary.create_file_writer(str(run_dir / "tensorboard"))

    def __enter__(self) -> "EpochWatcher":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()
        self.board.close()

    def begin(self, progress: RunProgress) -> None:
        """An epoch starts, or goes on after a resume."""
        text = f"epoch {progress.epoch + 1}/{self.epochs}"
        completed = progress.epoch * self.steps + progress.step
        self.bar.update(self.task, description=text, completed=completed)

    def advance(self, progress: RunProgress, loss: float) -> None:
        """Steps were done; `loss` is the epoch's mean so far."""
        done = progress.epoch * self.steps + progress.step
        text = f"epoch {progress.epoch + 1}/{self.epochs}  loss {loss:.4f}"
        self.bar.update(self.task, description=text, completed=done)
        with self.board.as_default(step=done):
            tf.summary.scalar("train/running_loss", loss)

    def end(self, progress: RunProgress) -> None:
        """An epoch is done and validated; its figures are the history's last row."""
        row = progress.history[-1]
        best = "  best so far" if progress.best_epoch == row["epoch"] else ""
        self.console.print(
            f"epoch {row['epoch']}/{self.epochs}  loss {row['loss']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
            f"{row['seconds']:.0f} s  {row['tokens_per_second']:,.0f} tokens/s{best}"
        )
        if progress.stopped:
            self.console.print(f"stopped early: epoch {progress.best_epoch} was the best")
        with self.board.as_default(step=progress.epoch * self.steps):
            for name, value in row.items():
                tf.summary.scalar(f"epoch/{name}", value)
        write_text(self.run_dir / METRICS_FILE, as_csv(progress.history))


class SilentWatcher(EpochWatcher):
    """Shows and records nothing: for workers that are not the chief."""

    def __init__(self, run_dir: Path, epochs: int, steps: int):
        """Opens no file."""

    def __enter__(self) -> "SilentWatcher":
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""

    def begin(self, progress: RunProgress) -> None:
        """Says nothing."""

    def advance(self, progress: RunProgress, loss: float) -> None:
        """Says nothing."""

    def end(self, progress: RunProgress) -> None:
        """Says nothing."""


def as_csv(rows: list[dict[str, float]]) -> str:
    """Rows with the same keys as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

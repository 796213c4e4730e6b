"""What a person sees of a run under way: one progress line, metrics.csv, TensorBoard."""

import contextlib
import csv
import io
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gpt2_tuning.files import write_text
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.options.training import Unit
from gpt2_tuning.progress_bar import ProgressBar
from gpt2_tuning.runs.run_files import METRICS_FILE, TRAIN, VALIDATION
from gpt2_tuning.training.board import Board
from gpt2_tuning.training.progress import Progress as RunProgress
from gpt2_tuning.training.steps import TRAINING, means

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEASURED = ("tokens_per_second", "seconds", "peak_memory_mb")
"""Columns of metrics.csv that depend on the machine; all others are the same in a repeated run."""
LINE_SECONDS = 30.0
"""Between two lines of progress where no terminal can show a moving one."""


class RunWatcher:
    """Shows and records a run's progress; to be used as a context manager.

    metrics.csv is written anew from the run's history after every validation, so a resumed run, or
    one whose file was cut short, has every row once. So has TensorBoard's log every point.

    Args:
        run_dir: the run's directory.
        updates: in the whole run.
        steps: updates in an epoch.
        unit: what the run is counted in.
    """

    def __init__(self, run_dir: Path, updates: int, steps: int, unit: Unit = "epoch"):
        self.run_dir, self.updates, self.steps, self.unit = run_dir, updates, steps, unit
        self.epochs = math.ceil(updates / steps)
        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=updates)
        self.board = Board(run_dir)
        self.clock = self.started = self.last_line = time.monotonic()
        self.first_step: int | None = None
        self.compiled: set[str] = set()
        self.compiled_steps, self.compile_seconds = 0, 0.0

    def __enter__(self) -> "RunWatcher":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()
        self.board.close()

    def say(self, line: str) -> None:
        """Prints a line above the progress."""
        self.console.print(line, markup=False)

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Inside the block a step of `what` is compiled: says so, and then how long it took.

        Where no terminal can show a moving line, that is one line, begun at once. On a CPU, where
        each of many lengths takes a moment, only the first has a line that stays.
        """
        moving, text = self.console.is_terminal, f"compiling the {what} step…"
        stays = device_choices().whole or what not in self.compiled
        self.compiled.add(what)
        shown, started = self.bar.tasks[self.task].description, time.monotonic()
        self.bar.update(self.task, description=f"{shown}  {text}".lstrip())
        if stays and not moving:
            self.console.print(text, end=" ")
        took = ""
        try:
            yield
            seconds = time.monotonic() - started
            took = f"{seconds:.1f} s"
        finally:
            self.bar.update(self.task, description=shown)
            if stays and not moving:
                self.say(took)
        if stays and moving:
            self.say(f"{text} {took}")
        self.compile_seconds += seconds
        self.compiled_steps += what == TRAINING

    def lap(self) -> float:
        """Seconds since it was called before, or since training went on."""
        before, self.clock = self.clock, time.monotonic()
        return self.clock - before

    def begin(self, progress: RunProgress) -> None:
        """Training starts, or goes on after a validation or a resume."""
        self.lap()
        done = progress.updates(self.steps)
        if self.first_step is None:
            self.first_step, self.started = done, self.clock
        text = self.place(progress)
        self.bar.update(self.task, description=text, completed=done)

    def advance(self, progress: RunProgress, figures: Mapping[str, float]) -> None:
        """Steps were done; `figures` are those since the last validation, such as `loss`."""
        done = progress.updates(self.steps)
        text = f"{self.place(progress)}  loss {figures['loss']:.4f}"
        self.bar.update(self.task, description=text, completed=done)
        if not self.console.is_terminal and self.clock - self.last_line >= LINE_SECONDS:
            self.last_line = self.clock
            step = f"  step {progress.step}/{self.steps}" if self.unit == "epoch" else ""
            self.say(
                f"{text}{step}  {figures['tokens_per_second']:,.0f} tokens/s  "
                f"{self.time_left(done)} left"
            )

    def place(self, progress: RunProgress) -> str:
        """Where a run under way is, in its unit."""
        if self.unit == "epoch":
            return f"epoch {progress.epoch + 1}/{self.epochs}"
        return f"update {progress.updates(self.steps)}/{self.updates}"

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        """Gives TensorBoard the figures of the updates since the last ones it was given."""
        self.board.log(TRAIN, update, figures)

    def time_left(self, done: int) -> str:
        """How long the remaining steps take at this process's pace, such as 1:02:30."""
        spent, steps = self.clock - self.started, done - (self.first_step or 0)
        if steps > self.compiled_steps:  # else compiling is all that was seen so far
            spent, steps = spent - self.compile_seconds, steps - self.compiled_steps
        pace = spent / max(steps, 1)
        seconds = round(pace * (self.updates - done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def validated(self, row: Mapping[str, float]) -> None:
        """Gives TensorBoard the figures of a validation."""
        found = {name[4:]: value for name, value in row.items() if name.startswith("val_")}
        self.board.log(VALIDATION, int(row["update"]), found)

    def end(self, progress: RunProgress) -> None:
        """A validation is done and kept; its figures are the history's last row."""
        row = progress.history[-1]
        best = "  best so far" if progress.best == len(progress.history) else ""
        total = self.updates if self.unit == "update" else self.updates / self.steps
        self.console.print(
            f"{self.unit} {in_short(row[self.unit])}/{in_short(total)}  loss {row['loss']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
            f"{row['seconds']:.0f} s  {row['tokens_per_second']:,.0f} tokens/s{best}"
        )
        if progress.stopped:
            kept = in_short(progress.best_row()[self.unit])
            self.console.print(f"stopped early: {self.unit} {kept} was the best")
        self.record(progress)

    def resumed(self, progress: RunProgress) -> None:
        """A run goes on from there: what was recorded after it goes, what is missing comes."""
        validated = progress.history[-1]["update"] if progress.history else 0
        self.board.go_back(progress.updates(self.steps), int(validated))
        self.record(progress)

    def flush(self) -> None:
        """Writes TensorBoard's log so far, which a checkpoint is to follow."""
        self.board.flush()

    def record(self, progress: RunProgress) -> None:
        """Writes metrics.csv as the history has it, whatever is there."""
        if progress.history:
            write_text(self.run_dir / METRICS_FILE, as_csv(progress.history))
        else:
            (self.run_dir / METRICS_FILE).unlink(missing_ok=True)


class SilentWatcher(RunWatcher):
    """Shows and records nothing: for workers that are not the chief."""

    def __init__(self, run_dir: Path, updates: int, steps: int, unit: Unit = "epoch"):
        """Opens no file."""
        self.clock = time.monotonic()

    def __enter__(self) -> "SilentWatcher":
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""

    def say(self, line: str) -> None:
        """Says nothing."""

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Says nothing."""
        yield

    def begin(self, progress: RunProgress) -> None:
        """Only starts the clock."""
        self.lap()

    def advance(self, progress: RunProgress, figures: Mapping[str, float]) -> None:
        """Says nothing."""

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        """Writes nothing."""

    def validated(self, row: Mapping[str, float]) -> None:
        """Writes nothing."""

    def end(self, progress: RunProgress) -> None:
        """Says nothing."""

    def resumed(self, progress: RunProgress) -> None:
        """Changes nothing."""

    def flush(self) -> None:
        """Nothing is open."""


def in_short(count: float) -> str:
    """A number of epochs or updates with two decimals at most: 3, 0.5, 1.33."""
    return f"{round(count, 2):.10g}"


def as_csv(rows: list[dict[str, float]]) -> str:
    """Rows with the same keys as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def figures(sums: Mapping[str, float], learning_rate: float) -> dict[str, float]:
    """How the updates went that have added up to `sums`."""
    return {
        **means(sums),
        "learning_rate": learning_rate,
        "grad_norm": sums["norm"] / sums["updates"],
        "padding_share": 1 - sums["real"] / sums["computed"],
        "tokens_per_second": sums["computed"] / sums["seconds"],
        "seconds": sums["seconds"],
        "peak_memory_mb": peak_memory_mb(),
    }


def peak_memory_mb() -> float:
    """The most memory that was in use so far: of the fullest GPU, or of the process without one.

    NaN on Windows, which does not tell it so.
    """
    gpus = range(len(tf.config.list_logical_devices("GPU")))
    if gpus:
        return max(tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] for i in gpus) / 2**20
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

"""The training loop: epochs of steps, validation, early stopping, checkpoints, the best weights.

It is our own loop rather than `fit`, because a run must be able to continue inside an epoch with
the same sums, order and stopping state; a user's script can still call `fit` on the models.
"""

import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.batches import Batch, BatchSource
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.training import checkpoint, run_directory
from gpt2_tuning.training.checkpoint import Progress
from gpt2_tuning.training.cluster import is_chief
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.options import TrainOptions
from gpt2_tuning.training.steps import SUMS, StepFunctions, add, evaluate, means
from gpt2_tuning.training.strategy import check_agreement, wait_for_all
from gpt2_tuning.training.watching import EpochWatcher, SilentWatcher

BEST_FILE = "best.safetensors"
DRAIN_EVERY = 10
"""Steps under way before their results are waited for, so that a GPU does not wait for Python."""


class Tuner:
    """Tunes a model on batches, in a run directory.

    Args:
        model: built, with its trainable variables as they are to be tuned; made in the strategy's
            scope.
        train: batches to train on.
        validation: batches that decide when to stop and which epoch's weights to keep.
        options: the flags.
        learning_rate: the schedule's peak.
        run_dir: where checkpoints, metrics.csv and TensorBoard logs go.
        strategy: the devices.
        monitor: what decides: "val_loss" (lower is better) or "val_accuracy" (higher).
    """

    def __init__(
        self,
        model: TunableModel,
        train: BatchSource,
        validation: BatchSource,
        options: TrainOptions,
        learning_rate: float,
        run_dir: Path,
        strategy: tf.distribute.Strategy,
        monitor: str = "val_loss",
    ):
        self.model, self.train, self.validation = model, train, validation
        self.options, self.run_dir, self.monitor = options, run_dir, monitor
        self.strategy, self.chief = strategy, is_chief(options.strategy)
        with strategy.scope():
            self.optimizer = make_optimizer(
                learning_rate,
                options.weight_decay,
                options.epochs * train.steps,
                options.warmup_share,
            )
            self.optimizer.build(model.trainable_variables)
        self.steps = StepFunctions(
            model, strategy, self.optimizer, options.max_grad_norm, options.gradient_accumulation
        )
        self.variables = checkpoint.changing_variables(model, self.optimizer)
        self.progress = Progress()
        self.checkpoints = run_dir / "checkpoints"

    def fit(self, resume: bool = False) -> list[dict[str, float]]:
        """Trains to the end, leaves the best epoch's weights in the model, returns the history.

        Args:
            resume: continue from the run directory's newest checkpoint.
        """
        if resume:
            self.progress = checkpoint.restore_newest(self.checkpoints, self.variables)
        check_agreement(self.strategy, self.identity())
        watching = EpochWatcher if self.chief else SilentWatcher
        with watching(self.run_dir, self.options.epochs, self.train.steps) as watcher:
            while self.progress.epoch < self.options.epochs and not self.progress.stopped:
                self.run_epoch(watcher)
        wait_for_all(self.strategy)  # the chief has written the best weights when it comes here
        if self.progress.best_epoch is not None:
            checkpoint.load_variables(self.checkpoints / BEST_FILE, self.model.trainable_variables)
        return self.progress.history

    def identity(self) -> str:
        """What all workers must have in common: flags, data and progress."""
        settings = run_directory.as_settings(self.options)
        for place in ("dataset_dir", "pretrained"):  # may differ between machines
            del settings[place]
        sums = [split.records.checksum() for split in (self.train, self.validation)]
        return f"{settings} {sums} {self.progress}"

    def run_epoch(self, watcher: EpochWatcher) -> None:
        """Trains from where the progress stands to the end of the epoch, then validates."""
        progress = self.progress
        watcher.begin(progress)
        started, computed_before = time.monotonic(), progress.sums.get("computed", 0)
        pending: list[tuple[Batch, tf.Tensor]] = []
        for batch in self.train.epoch(self.options.seed, progress.epoch, progress.step):
            pending.append((batch, self.steps.train(batch)))
            step = progress.step + len(pending)
            if step % DRAIN_EVERY == 0 or self.checkpoint_due(step):
                self.drain(pending, watcher)
                if self.checkpoint_due(step):
                    self.save_checkpoint()
        self.drain(pending, watcher)
        seconds = time.monotonic() - started
        tokens = progress.sums["computed"] - computed_before
        self.end_epoch(watcher, seconds, tokens)

    def drain(self, pending: list[tuple[Batch, tf.Tensor]], watcher: EpochWatcher) -> None:
        """Waits for the steps under way and adds what they gave to the progress.

        Raises:
            UserError: a loss or a gradient is not finite.
        """
        progress = self.progress
        for batch, result in pending:
            *values, norm = np.asarray(result, np.float64)
            progress.step += 1
            if not np.isfinite([*values, norm]).all():
                raise UserError(
                    f"the loss or its gradient is not finite at step {progress.step} of epoch "
                    f"{progress.epoch + 1}: lower --learning_rate"
                )
            counted = {"norm": norm, "real": batch.real_tokens, "computed": batch.computed_tokens}
            add(progress.sums, {**dict(zip(SUMS, values, strict=True)), **counted})
        pending.clear()
        watcher.advance(progress, means(progress.sums)["loss"])

    def checkpoint_due(self, step: int) -> bool:
        """Whether a checkpoint follows this step; the epoch's end has its own."""
        every = self.options.checkpoint_steps
        done = self.progress.epoch * self.train.steps + step
        return done % every == 0 and step < self.train.steps

    def end_epoch(self, watcher: EpochWatcher, seconds: float, tokens: float) -> None:
        """Validates, records the epoch's figures, keeps its weights if best, checkpoints."""
        progress, sums = self.progress, self.progress.sums
        row = {
            "epoch": progress.epoch + 1,
            **means(sums),
            **{f"val_{name}": value for name, value in self.evaluate(self.validation).items()},
            "learning_rate": float(self.optimizer.learning_rate),
            "grad_norm": sums["norm"] / progress.step,
            "padding_share": 1 - sums["real"] / sums["computed"],
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
        }
        progress.history.append(row)
        if self.improved():
            progress.best_epoch = progress.epoch + 1
            self.save_best()
        waited = progress.epoch + 1 - (progress.best_epoch or 0)
        progress.stopped = self.options.patience is not None and waited > self.options.patience
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        watcher.end(progress)
        self.save_checkpoint()

    def evaluate(self, source: BatchSource) -> dict[str, float]:
        """The weighted mean `loss` and `accuracy` over a whole split."""
        return evaluate(self.steps, source)

    def improved(self) -> bool:
        """Whether the newest epoch beats the best one before it; the first always does."""
        sign = -1 if self.monitor.endswith("loss") else 1
        scores = [sign * row[self.monitor] for row in self.progress.history]
        best = self.progress.best_epoch
        return best is None or scores[-1] > scores[best - 1]

    def save_best(self) -> None:
        """Keeps the tuned weights as they are now; only the chief writes."""
        if not self.chief:
            return
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoints / f".{BEST_FILE}.partial"
        checkpoint.save_variables(partial, self.model.trainable_variables)
        partial.replace(self.checkpoints / BEST_FILE)

    def save_checkpoint(self) -> None:
        """Writes all that resuming needs; only the chief does."""
        if not self.chief:
            return
        done = self.progress.epoch * self.train.steps + self.progress.step
        checkpoint.save_checkpoint(
            self.checkpoints, self.variables, self.progress, f"step-{done:08d}"
        )

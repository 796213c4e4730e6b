"""The training loop: epochs of steps, validation, early stopping, checkpoints, the best weights.

It is our own loop rather than `fit`, because a run must be able to continue inside an epoch with
the same sums, order and stopping state; a user's script can still call `fit` on the models.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from gpt2_tuning.checkpoints.huggingface import as_float32, sha256_of_weights
from gpt2_tuning.data.batch_arrays import Batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.errors import UserError
from gpt2_tuning.interrupts import Stopped, StopRequest
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.training import checkpoint, out_of_memory, run_directory, run_files
from gpt2_tuning.training.checkpoint import Checkpoints, Progress
from gpt2_tuning.training.cluster import is_chief
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.options import TrainOptions
from gpt2_tuning.training.steps import (
    MEANS,
    SUMS,
    TRAINING,
    StepFunctions,
    add,
    evaluate,
    means,
)
from gpt2_tuning.training.strategy import check_agreement, said_by_all, wait_for_all
from gpt2_tuning.training.variables import changing_variables, frozen_weights
from gpt2_tuning.training.watching import (
    METRICS_FILE,
    EpochWatcher,
    SilentWatcher,
    peak_memory_mb,
)

DRAIN_EVERY = 10
"""Steps under way before their results are waited for, so that a GPU does not wait for Python."""

NOTHING_YET = " before the first update: there is nothing new to save"


class Tuner:
    """Tunes a model on batches, in a run directory.

    Args:
        model: built, with its trainable variables as they are to be tuned; made in the strategy's
            scope.
        train: batches to train on.
        validation: batches that decide when to stop and which epoch's weights to keep.
        options: the flags.
        learning_rate: the schedule's peak.
        run_dir: where checkpoints, metrics.csv and TensorBoard logs go; no other process may use it
            meanwhile (see run_directory.begun).
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
                options.optimizer,
                learning_rate,
                options.weight_decay,
                options.epochs * train.steps,
                options.warmup_share,
            )
            self.optimizer.build(model.trainable_variables)
        self.steps = StepFunctions(
            model, strategy, self.optimizer, options.max_grad_norm, options.gradient_accumulation
        )
        self.variables = changing_variables(model, self.optimizer)
        if self.steps.loss_scale is not None:
            self.variables += self.steps.loss_scale.variables
        self.progress = Progress()
        self.checkpoints = run_dir / run_files.CHECKPOINTS
        self.store = Checkpoints(
            self.checkpoints,
            self.variables,
            model.trainable_variables,
            self.described(learning_rate),
            writes=self.chief,
        )
        self.stop = StopRequest()

    def described(self, learning_rate: float) -> dict[str, Any]:
        """What the run is: all that decides on its result and is not in a checkpoint."""
        settings = run_directory.as_settings(self.options)
        # A base may have another path on another machine: its weights count.
        apart = (*run_directory.MAY_CHANGE, "pretrained")
        frozen = frozen_weights(self.model)
        return {
            **{name: settings[name] for name in settings if name not in apart},
            "learning_rate": learning_rate,
            "monitor": self.monitor,
            "train split": self.train.records.checksum(),
            "validation split": self.validation.records.checksum(),
            "frozen weights": sha256_of_weights(map(as_float32, frozen)),
        }

    def fit(self, resume: bool = False) -> list[dict[str, float]]:
        """Trains to the end, leaves the best epoch's weights in the model, returns the history.

        Args:
            resume: continue from the run directory's newest checkpoint.

        Raises:
            UserError: there is nothing to resume from, a checkpoint cannot be written, a loss is
                not finite, or the memory does not suffice (OutOfMemory).
            Stopped: by SIGTERM or Ctrl-C at any worker, once a checkpoint was saved.
        """
        with self.watched() as watcher:
            if resume:
                self.restore(watcher)
            check_agreement(self.strategy, f"{self.store.run} {self.progress}")
            while not self.finished:
                with out_of_memory.reported(self.steps, self.options, self.checkpoints):
                    self.run_epoch(watcher)
            wait_for_all(self.strategy)  # the chief has written the best weights when it comes here
            self.stop_if_asked()
        self.store.load_best(self.progress)
        return self.progress.history

    @contextlib.contextmanager
    def watched(self) -> Iterator[EpochWatcher]:
        """Inside the block signals wait for the end of a step."""
        with contextlib.ExitStack() as stack:
            if self.chief:
                self.run_dir.mkdir(parents=True, exist_ok=True)
                self.store.remove_leftovers()
            stack.enter_context(self.stop)
            watching = EpochWatcher if self.chief else SilentWatcher
            watcher = watching(self.run_dir, self.options.epochs, self.train.steps)
            self.steps.compiling = functools.partial(self.compiling, watcher)
            yield stack.enter_context(watcher)

    @contextlib.contextmanager
    def compiling(self, watcher: EpochWatcher, what: str) -> Iterator[None]:
        """Inside the block a step is compiled. While it is the first one, a signal waits for none.

        Of several workers none may end before the others know.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(watcher.compiling(what))
            together = self.options.strategy == "multi_worker"
            if what == TRAINING and not together and not watcher.compiled_steps:
                stack.enter_context(self.stop.at_once(NOTHING_YET))
            yield

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or as many as it took to stop."""
        return self.progress.stopped or self.progress.epoch >= self.options.epochs

    def restore(self, watcher: EpochWatcher) -> None:
        """Goes back to the newest checkpoint; to the beginning where none was written yet."""
        if not checkpoint.checkpoints(self.checkpoints):
            # The first epoch's checkpoint is written before metrics.csv is.
            if (self.run_dir / METRICS_FILE).exists():
                raise UserError(
                    f"{self.checkpoints} has lost its checkpoints: nothing to resume from; start "
                    "the run again with --overwrite"
                )
            watcher.say("no checkpoint was written yet: starting from the beginning")
            return
        self.progress, path = self.store.restore()
        watcher.record(self.progress)
        if self.finished:
            if self.chief:  # a kill may have come just after the last one was written
                self.store.remove_older(path)
            watcher.say(f"the training was finished ({path.name}): doing what comes after it")
        else:
            place = f"epoch {self.progress.epoch + 1}, after step {self.progress.step}"
            watcher.say(f"resuming from {path.name}: {place}")

    def run_epoch(self, watcher: EpochWatcher) -> None:
        """Trains from where the progress stands to the end of the epoch, then validates."""
        progress = self.progress
        watcher.begin(progress)
        pending: list[tuple[Batch, tf.Tensor]] = []
        for batch in self.train.epoch(self.options.seed, progress.epoch, progress.step):
            pending.append((batch, self.steps.train(batch)))
            step = progress.step + len(pending)
            # Asked once: what is saved must be what was drained.
            due, number = self.checkpoint_due(step), self.asked_to_stop()
            if step % DRAIN_EVERY == 0 or due or number:
                self.drain(pending, watcher)
            if number:
                self.stop_here(number)
            if due:
                self.save_checkpoint()
        self.drain(pending, watcher)
        self.end_epoch(watcher)

    def drain(self, pending: list[tuple[Batch, tf.Tensor]], watcher: EpochWatcher) -> None:
        """Waits for the steps under way and adds what they gave to the progress.

        Raises:
            UserError: a loss or a gradient is not finite.
        """
        if not pending:
            return
        progress = self.progress
        for batch, result in pending:
            *values, norm = np.asarray(result, np.float64)
            progress.step += 1
            if not np.isfinite([*values, norm]).all():
                self.refuse_batch(batch)
            counted = {"norm": norm, "real": batch.real_tokens, "computed": batch.computed_tokens}
            add(progress.sums, {**dict(zip(SUMS, values, strict=True)), **counted})
        pending.clear()
        add(progress.sums, {"seconds": watcher.lap()})
        watcher.advance(progress, {**self.figures(), "grad_norm": norm})

    def refuse_batch(self, batch: Batch) -> NoReturn:
        """Raises UserError, naming the batch whose loss or gradient is not finite."""
        rows = [] if batch.rows is None else np.sort(batch.rows).tolist()
        whole = checkpoint.checkpoints(self.checkpoints)
        raise UserError(
            f"the loss or its gradient is not finite at epoch {self.progress.epoch + 1}, step "
            f"{self.progress.step}, in a batch of the train examples "
            f"{', '.join(map(str, rows))} (counted from 0). Start again with a lower "
            "--learning_rate, or without those examples; "
            + (f"{whole[-1]} is from before" if whole else "there is no checkpoint yet")
        )

    def figures(self) -> dict[str, float]:
        """How the epoch went so far."""
        sums = self.progress.sums
        return {
            **means(sums),
            "learning_rate": float(self.optimizer.learning_rate),
            "grad_norm": sums["norm"] / self.progress.step,
            "padding_share": 1 - sums["real"] / sums["computed"],
            "tokens_per_second": sums["computed"] / sums["seconds"],
            "seconds": sums["seconds"],
            "peak_memory_mb": peak_memory_mb(),
        }

    def checkpoint_due(self, step: int) -> bool:
        """Whether a checkpoint follows this step; the epoch's end has its own."""
        every = self.options.checkpoint_steps
        done = self.progress.epoch * self.train.steps + step
        return done % every == 0 and step < self.train.steps

    def asked_to_stop(self) -> int:
        """The signal that ends the run, 0 while there is none; all workers learn it at once.

        A signal comes to one worker or to each at another moment, and all must end after the same
        step: so none goes by what it was asked itself before the others know.
        """
        return max(said_by_all(self.strategy, self.stop.number or 0))

    def stop_if_asked(self) -> None:
        """After a SIGTERM or Ctrl-C: saves a checkpoint and raises Stopped; no step is pending."""
        if number := self.asked_to_stop():
            self.stop_here(number)

    def stop_here(self, number: int) -> NoReturn:
        """Saves a checkpoint and raises Stopped, in every worker once the chief has saved it."""
        path = self.save_checkpoint()
        wait_for_all(self.strategy)
        raise Stopped(number, f": {path} is saved; the same flags and --resume go on from it")

    def end_epoch(self, watcher: EpochWatcher) -> None:
        """Validates, records the epoch's figures, keeps its weights if best, checkpoints.

        Raises:
            UserError: the validation loss is not finite.
        """
        progress = self.progress
        validation = evaluate(self.steps, self.validation, self.stop_if_asked)
        if not np.isfinite(validation["loss"]):
            raise UserError(
                f"the validation loss is not finite after epoch {progress.epoch + 1}: start again "
                "with a lower --learning_rate"
            )
        trained = self.figures()
        progress.history.append(
            {
                "epoch": progress.epoch + 1,
                **{name: trained.pop(name) for name in MEANS},
                **{f"val_{name}": value for name, value in validation.items()},
                **trained,
            }
        )
        if self.improved():
            progress.best_epoch = progress.epoch + 1
            self.store.save_best(progress)
        waited = progress.epoch + 1 - (progress.best_epoch or 0)
        progress.stopped = self.options.patience is not None and waited > self.options.patience
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        self.save_checkpoint()
        watcher.end(progress)

    def evaluate(self, source: BatchSource) -> dict[str, float]:
        """The weighted mean `loss` and `accuracy` over a whole split."""
        return evaluate(self.steps, source)

    def improved(self) -> bool:
        """Whether the newest epoch beats the best one before it; the first always does."""
        sign = -1 if self.monitor.endswith("loss") else 1
        scores = [sign * row[self.monitor] for row in self.progress.history]
        best = self.progress.best_epoch
        return best is None or scores[-1] > scores[best - 1]

    def save_checkpoint(self) -> Path:
        """Writes all that resuming needs; only the chief does."""
        done = self.progress.epoch * self.train.steps + self.progress.step
        path = self.store.save(self.progress, done)
        if self.chief and self.progress.best_epoch is not None:
            run_files.drop_aside(self.run_dir)  # the run that this one overwrites
        return path

"""The training loop: steps from validation to validation, checkpoints, the best weights.

It is our own loop rather than `fit`, because a run must be able to continue inside an epoch with
the same sums, order and stopping state; a user's script can still call `fit` on the models.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import tensorflow as tf

from gpt2_tuning.cluster import is_chief
from gpt2_tuning.data.batch_arrays import Batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.errors import UserError
from gpt2_tuning.interrupts import Stopped, StopRequest
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.runs import run_files
from gpt2_tuning.training import checkpoint_files, out_of_memory
from gpt2_tuning.training.checkpoint import Checkpoints
from gpt2_tuning.training.feeding import feed
from gpt2_tuning.training.not_finite import refuse_batch, refuse_validation
from gpt2_tuning.training.objective import Objective
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.progress import Progress
from gpt2_tuning.training.run_identity import described
from gpt2_tuning.training.steps import SUMS, TRAINING, StepFunctions, evaluate
from gpt2_tuning.training.strategy import check_agreement, said_by_all, wait_for_all
from gpt2_tuning.training.validations import Validations
from gpt2_tuning.training.variables import changing_variables
from gpt2_tuning.training.watching import RunWatcher, SilentWatcher, figures

DRAIN_EVERY = 10
"""Steps under way before their results are waited for, so that a GPU does not wait for Python; and
updates between two points in TensorBoard."""

NOTHING_YET = " before the first update: there is nothing new to save"


class Tuner:
    """Tunes a model on batches, in a run directory.

    Args:
        objective: of a model that is built, with its trainable variables as they are to be tuned;
            made in the strategy's scope.
        train: batches to train on.
        validation: batches that decide when to stop and which weights to keep.
        options: the flags.
        learning_rate: the schedule's peak.
        run_dir: where checkpoints, metrics.csv and TensorBoard logs go; no other process may use it
            meanwhile (see run_directory.begun).
        strategy: the devices.
    """

    def __init__(
        self,
        objective: Objective,
        train: BatchSource,
        validation: BatchSource,
        options: TrainOptions,
        learning_rate: float,
        run_dir: Path,
        strategy: tf.distribute.Strategy,
    ):
        self.model = model = objective.model
        self.train, self.validation = train, validation
        self.options, self.run_dir = options, run_dir
        self.strategy, self.chief = strategy, is_chief(options.strategy)
        self.validations = Validations(options, train.steps)
        with strategy.scope():
            self.optimizer = make_optimizer(
                options.optimizer,
                learning_rate,
                options.weight_decay,
                self.validations.updates,
                options.warmup_share,
                options.lora_plus_ratio if options.lora_plus else 1.0,
            )
            self.optimizer.build(model.trainable_variables)
        self.steps = StepFunctions(
            objective,
            strategy,
            self.optimizer,
            options.max_grad_norm,
            options.gradient_accumulation,
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
            described(options, learning_rate, train, validation, model),
            writes=self.chief,
        )
        self.stop = StopRequest()
        self.length = (self.validations.updates, train.steps, options.unit)
        self.watcher: RunWatcher = SilentWatcher(run_dir, *self.length)
        self.samples: dict[str, str] = {}
        """Texts that show what the model does, for TensorBoard; by what they are."""

    def fit(self, resume: bool = False) -> list[dict[str, float]]:
        """Trains to the end, leaves the best weights in the model, returns the history.

        Args:
            resume: continue from the run directory's newest checkpoint.

        Raises:
            UserError: there is nothing to resume from, a checkpoint cannot be written, a loss is
                not finite, or the memory does not suffice (OutOfMemory).
            Stopped: by SIGTERM or Ctrl-C at any worker, once a checkpoint was saved.
        """
        with self.watched():
            if resume:
                self.restore()
            check_agreement(self.strategy, f"{self.store.run} {self.progress}")
            while not self.finished:
                with out_of_memory.reported(self.steps, self.options, self.checkpoints):
                    self.train_on()
                    self.validate()
            wait_for_all(self.strategy)  # the chief has written the best weights when it comes here
            self.stop_if_asked()
        self.store.load_best(self.progress)
        wait_for_all(self.strategy)  # from here on the chief may remove what others have read
        return self.progress.history

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block signals wait for the end of a step."""
        with contextlib.ExitStack() as stack:
            if self.chief:
                self.run_dir.mkdir(parents=True, exist_ok=True)
                self.store.remove_leftovers()
            stack.enter_context(self.stop)
            watching = RunWatcher if self.chief else SilentWatcher
            self.watcher = watching(self.run_dir, *self.length)
            self.steps.compiling = self.compiling
            stack.enter_context(self.watcher)
            yield

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Inside the block a step is compiled. While it is the first one, a signal waits for none.

        Of several workers none may end before the others know.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.watcher.compiling(what))
            together = self.options.strategy == "multi_worker"
            if what == TRAINING and not together and not self.watcher.compiled_steps:
                stack.enter_context(self.stop.at_once(NOTHING_YET))
            yield

    @property
    def finished(self) -> bool:
        """Whether all updates are done and validated, or as many as it took to stop."""
        return self.validations.finished(self.progress)

    @property
    def done(self) -> int:
        """Updates that are done and counted since the run's start."""
        return self.progress.updates(self.train.steps)

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.learning_rate)

    def restore(self) -> None:
        """Goes back to the newest checkpoint; to the beginning where none was written yet."""
        if not checkpoint_files.found_in(self.checkpoints):
            # The first validation's checkpoint is written before metrics.csv is.
            if (self.run_dir / run_files.METRICS_FILE).exists():
                raise UserError(
                    f"{self.checkpoints} has lost its checkpoints: nothing to resume from; start "
                    "the run again with --overwrite"
                )
            self.watcher.resumed(self.progress)
            self.watcher.say("no checkpoint was written yet: starting from the beginning")
            return
        self.progress, path = self.store.restore()
        self.progress.history = self.validations.with_updates(self.progress.history)
        self.watcher.resumed(self.progress)
        if self.finished:
            if self.chief:  # a kill may have come just after the last one was written
                checkpoint_files.remove_older(path)
            self.watcher.say(f"the training was finished ({path.name}): doing what comes after it")
        else:
            place = f"epoch {self.progress.epoch + 1}, after step {self.progress.step}"
            self.watcher.say(f"resuming from {path.name}: {place}")

    def train_on(self) -> None:
        """Trains from where the progress stands to the next validation."""
        self.watcher.begin(self.progress)
        pending: list[tuple[Batch, tf.Tensor]] = []
        until = self.validations.next_update(self.progress.history)
        for update, batch, tensors in feed(
            self.steps, self.train, self.options.seed, self.done, until
        ):
            pending.append((batch, self.steps.train(batch, tensors)))
            # Asked once: what is saved must be what was drained.
            due, number = update % self.options.checkpoint_steps == 0, self.asked_to_stop()
            if update % DRAIN_EVERY == 0 or due or number:
                self.drain(pending)
            if number:
                self.stop_here(number)
            if due and update < until:  # the validation has its own
                self.save_checkpoint()
        self.drain(pending)

    def drain(self, pending: list[tuple[Batch, tf.Tensor]]) -> None:
        """Waits for the steps under way and adds what they gave to the progress.

        Raises:
            UserError: a loss or a gradient is not finite.
        """
        if not pending:
            return
        progress = self.progress
        for batch, result in pending:
            *values, norm = np.asarray(result, np.float64)
            progress.advance(self.train.steps)
            if not np.isfinite([*values, norm]).all():
                refuse_batch(batch, progress, self.checkpoints)
            computed = self.steps.computed_tokens(batch)
            counted = {"norm": norm, "real": batch.real_tokens, "computed": computed}
            progress.add({**dict(zip(SUMS, values, strict=True)), **counted, "updates": 1})
        pending.clear()
        progress.add({"seconds": self.watcher.lap()})
        self.watcher.advance(progress, figures(progress.sums, self.rate))
        validated = self.validations.next_update(progress.history)
        if self.done % DRAIN_EVERY == 0 or self.done == validated:
            self.watcher.log(self.done, figures(progress.unlogged, self.rate))
            progress.unlogged = {}

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
        if not self.finished:  # whose last checkpoint may be all that is left of the end
            self.save_checkpoint()
        wait_for_all(self.strategy)
        path = self.store.path_of(self.done)
        raise Stopped(number, f": {path} is saved; the same flags and --resume go on from it")

    def validate(self) -> None:
        """Validates, records the figures, keeps the weights if they are the best, checkpoints.

        Raises:
            UserError: the validation loss is not finite.
        """
        progress = self.progress
        validation = evaluate(self.steps, self.validation, self.stop_if_asked)
        row = self.validations.row(self.done, figures(progress.sums, self.rate), validation)
        if not np.isfinite(row["val_loss"]):
            refuse_validation(row)
        if self.validations.record(progress, row):
            self.store.save_best(progress)
        progress.sums = {}
        self.watcher.validated(row)
        self.save_checkpoint()
        self.watcher.end(progress)

    def evaluate(self, source: BatchSource) -> dict[str, float]:
        """The weighted mean `loss` and `accuracy` over a whole split."""
        return evaluate(self.steps, source)

    def save_checkpoint(self) -> None:
        """Writes all that resuming needs; only the chief does."""
        self.watcher.flush()
        self.store.save(self.progress, self.done)
        if self.chief and self.progress.best is not None:
            run_files.drop_aside(self.run_dir)  # the run that this one overwrites

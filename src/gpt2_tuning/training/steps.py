"""One training step and one evaluation step, the same on one device and on many.

The loss is the sum over what is supervised, divided by the number supervised in the *global*
batch; gradients are summed over micro-batches and devices, then clipped, then applied. So the split
of a batch over processes, devices and time changes nothing but the order of additions.

Every replica is handed the whole batch, in every process, and takes its rows: a batch is a few
hundred kilobytes at most, and each replica so knows the global weight and the global counts
without asking the others.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.data.batch_arrays import Batch, up_to_multiple
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.training.loss_scale import LossScale
from gpt2_tuning.training.objective import Objective
from gpt2_tuning.training.traces import AnyLength, EachShape, kind_of

SUMS = ("loss", "hits", "weight")
MEANS = {"loss": "loss", "accuracy": "hits"}
TRAINING, EVALUATION = "training", "evaluation"
Tensors = tuple[Any, tf.Tensor, tf.Tensor]
"""A batch's inputs, a dict, its targets and its weights."""


class StepFunctions:
    """The compiled steps of one model under one strategy.

    Both return float32 sums over the global batch, in the order of SUMS: the losses, the right
    predictions and the weights; a training step adds the gradients' norm before clipping.

    Args:
        objective: of a model that was built in the strategy's scope.
        strategy: the devices.
        optimizer: needed to train.
        max_grad_norm: gradients are scaled down to this global norm.
        accumulation: micro-batches that a replica's rows are computed in, one after another.
    """

    def __init__(
        self,
        objective: Objective,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer | None = None,
        max_grad_norm: float = 1.0,
        accumulation: int = 1,
    ):
        self.objective = objective
        self.model = objective.model
        self.strategy = strategy
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.accumulation = accumulation
        whole, self.alone = device_choices().whole, strategy.num_replicas_in_sync == 1
        # Of several replicas, between which gradients travel, XLA compiles what each computes.
        by_replica = functools.partial(tf.function, jit_compile=True, autograph=False)
        wrap = by_replica if whole and not self.alone else lambda function: function
        trace = functools.partial(EachShape, compiled=self.alone) if whole else AnyLength
        self._sums_and_gradients = wrap(self._plain_sums_and_gradients)
        self._sums_only = wrap(functools.partial(self._sums, training=False))

        with strategy.scope():
            self.loss_scale = LossScale() if self.model.compute_dtype == "float16" else None

        def train(batch):
            gradients, results = strategy.run(self._gradients_of_replica, args=(batch,))
            results = self._first(results)

            def update():
                strategy.run(self._update_replica, args=(gradients,))
                return tf.constant(True)

            if self.loss_scale is None:
                update()
                return results
            # Outside the replicas, where a condition may hold what sums over them.
            finite = tf.math.is_finite(results[-1])
            tf.cond(finite, update, lambda: tf.constant(False))
            return self.loss_scale.after_step(results)

        def evaluate(batch):
            return self._first(strategy.run(self._evaluate_replica, args=(batch,)))

        self._train, self._evaluate = trace(train), trace(evaluate)
        self.compiling: Callable[[str], contextlib.AbstractContextManager] = contextlib.nullcontext
        """Gives what is entered while a step of TRAINING or EVALUATION is compiled."""
        self._compiled: set[tuple] = set()
        self.largest = (0, 0)
        """Rows and tokens of a row of the largest batch that was computed, or was to be."""

    def train(self, batch: Batch, tensors: Tensors | None = None) -> tf.Tensor:
        """Updates the weights: float32 [4], the sums and the gradients' global norm.

        Args:
            batch: at least one row.
            tensors: the batch's `tensors`, where they are there already.
        """
        return self._call(self._train, batch, tensors or self.tensors(batch))

    def evaluate(self, batch: Batch) -> tf.Tensor:
        """Changes nothing: float32 [3], the sums."""
        return self._call(self._evaluate, batch, self.tensors(batch, training=False))

    def _call(self, function: AnyLength | EachShape, batch: Batch, tensors: Tensors) -> tf.Tensor:
        """The function's result; one that is compiled first is waited for."""
        training = function is self._train
        self.largest = max(self.largest, batch.inputs["token_ids"].shape, key=math.prod)
        # XLA compiles for one shape: on a GPU the step, on a CPU the fused functions in it.
        shapes = tuple(tensor.shape for tensor in tf.nest.flatten(tensors))
        what = TRAINING if training else EVALUATION
        kind = (what, *kind_of(tensors), *shapes)
        if kind in self._compiled:
            return function(tensors)
        with self.compiling(what):
            result = function(tensors)
            result.numpy()
        self._compiled.add(kind)
        return result

    def parts(self, training: bool = True) -> int:
        """The equal parts that a batch is computed in: in evaluation one on each replica."""
        replicas = self.strategy.num_replicas_in_sync
        return replicas * self.accumulation if training else replicas

    def computed_tokens(self, batch: Batch) -> int:
        """Tokens that are computed in training: of the batch, and of the rows that parts add."""
        rows, length = batch.inputs["token_ids"].shape
        return up_to_multiple(rows, self.parts()) * length

    def tensors(self, batch: Batch, training: bool = True) -> Tensors:
        """The batch as tensors, its rows made a multiple of the number of parts it is split in."""
        parts = self.parts(training)
        missing = up_to_multiple(len(batch.targets), parts) - len(batch.targets)

        def tensor(array: np.ndarray) -> tf.Tensor:
            added = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
            return tf.constant(np.pad(array, added) if missing else array)

        inputs = tf.nest.map_structure(tensor, batch.inputs)
        return inputs, tensor(batch.targets), tensor(batch.weights)

    def _rows_of_replica(self, batch):
        """This replica's share of the whole batch."""
        if self.alone:
            return batch
        replicas = self.strategy.num_replicas_in_sync
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.shape(batch[2])[0] // replicas
        return tf.nest.map_structure(lambda x: x[index * rows : (index + 1) * rows], batch)

    def _sums(self, batch, training: bool) -> tf.Tensor:
        """Weighted sums of one replica, float32 [3]."""
        inputs, targets, weights = batch
        loss, hits = self.objective.sums(inputs, targets, weights, training)
        return tf.stack([loss, hits, tf.reduce_sum(weights)])

    def _plain_sums_and_gradients(self, batch, total_weight):
        """One replica's sums and its part of the gradients of the global batch's mean loss."""
        if self.accumulation == 1:
            return self._part(batch, total_weight)

        def micro_batches(x):
            """[rows, ...] to [accumulation, rows / accumulation, ...]."""
            shape = tf.shape(x)
            split = [self.accumulation, shape[0] // self.accumulation]
            return tf.reshape(x, tf.concat([split, shape[1:]], axis=0))

        batch = tf.nest.map_structure(micro_batches, batch)

        def body(index, sums, gradients):
            part = tf.nest.map_structure(lambda x: x[index], batch)
            more_sums, more = self._part(part, total_weight)
            return (
                index + 1,
                sums + more_sums,
                [a + b for a, b in zip(gradients, more, strict=True)],
            )

        # A loop, so that the activations of one micro-batch exist at a time, and running sums,
        # so that the gradients of one do.
        zeros = [
            tf.zeros(variable.shape, variable.dtype) for variable in self.model.trainable_variables
        ]
        _, sums, gradients = tf.while_loop(
            lambda index, *_: index < self.accumulation,
            body,
            (tf.constant(0), tf.zeros([len(SUMS)]), zeros),
            parallel_iterations=1,
        )
        return sums, gradients

    def _part(self, batch, total_weight):
        """The sums of some rows and their part of the gradients of the global mean loss."""
        with tf.GradientTape() as tape:
            sums = self._sums(batch, training=True)
            loss = sums[0] / total_weight
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return sums, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _evaluate_replica(self, batch):
        sums = self._sums_only(self._rows_of_replica(batch))
        return self._summed_over_replicas(sums)

    def _summed_over_replicas(self, values):
        """Tensors, or lists of them, of all replicas added up; on each replica the same."""
        if self.alone:
            return values
        return tf.distribute.get_replica_context().all_reduce("SUM", values)

    def _gradients_of_replica(self, batch):
        """Clipped gradients of the global batch, its sums and norm: the same on every replica."""
        total_weight = tf.reduce_sum(batch[2])
        if self.loss_scale is not None:
            total_weight /= self.loss_scale.value
        sums, gradients = self._sums_and_gradients(self._rows_of_replica(batch), total_weight)
        sums, *gradients = self._summed_over_replicas([sums, *gradients])
        if self.loss_scale is not None:
            gradients = [gradient / self.loss_scale.value for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        scale = tf.minimum(1.0, self.max_grad_norm / (norm + 1e-6))
        clipped = [gradient * scale for gradient in gradients]
        return clipped, tf.concat([sums, norm[tf.newaxis]], axis=0)

    def _update_replica(self, gradients):
        assert self.optimizer is not None
        self.optimizer.apply(gradients, self.model.trainable_variables)

    def _first(self, results) -> tf.Tensor:
        """What the replicas of this process returned is the same for all."""
        return self.strategy.experimental_local_results(results)[0]


def add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Adds figure by figure."""
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + float(value)


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """The mean loss and the accuracy, by weight."""
    return {name: sums[total] / sums["weight"] for name, total in MEANS.items()}


def evaluate(
    steps: StepFunctions, source: BatchSource, after_batch: Callable[[], None] | None = None
) -> dict[str, float]:
    """The weighted mean `loss` and `accuracy` over a whole split; `after_batch` may end it."""
    sums: dict[str, float] = {}
    results = []
    for batch in source.in_order():
        results.append(steps.evaluate(batch))
        if after_batch:
            after_batch()
    for result in results:
        add(sums, dict(zip(SUMS, np.asarray(result, np.float64), strict=True)))
    return means(sums)

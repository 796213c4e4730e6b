"""One training step and one evaluation step, the same on one device and on many.

The loss is the sum over what is supervised, divided by the number supervised in the *global*
batch; gradients are summed over the devices, then clipped, then applied. So the split of a batch
over devices changes nothing but the order of additions.
"""

import functools
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.data.batches import Batch, BatchSource
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.training.strategy import uses_gpu

SUMS = ("loss", "hits", "weight")
MEANS = {"loss": "loss", "accuracy": "hits"}


class StepFunctions:
    """The compiled steps of one model under one strategy.

    Both return float32 sums over the global batch, in the order of SUMS: the losses, the right
    predictions and the weights; a training step adds the gradients' norm before clipping.

    Args:
        model: built in the strategy's scope.
        strategy: the devices.
        optimizer: needed to train.
        max_grad_norm: gradients are scaled down to this global norm.
    """

    def __init__(
        self,
        model: TunableModel,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer | None = None,
        max_grad_norm: float = 1.0,
    ):
        self.model = model
        self.strategy = strategy
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        # On a GPU, XLA compiles each replica's computation; on a CPU it would make it slower.
        compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
        wrap = compiled if uses_gpu() else lambda function: function
        self._sums_and_gradients = wrap(self._plain_sums_and_gradients)
        self._sums_only = wrap(functools.partial(self._sums, training=False))

        def train(batch):
            sums, norm = strategy.run(self._train_replica, args=(batch,))
            first_norm = strategy.experimental_local_results(norm)[0]
            return tf.concat([self._total(sums), first_norm], axis=0)

        def evaluate(batch):
            return self._total(strategy.run(self._evaluate_replica, args=(batch,)))

        self._train, self._evaluate = AnyLength(train), AnyLength(evaluate)

    def train(self, batch: Batch) -> tf.Tensor:
        """Updates the weights: float32 [4], the sums and the gradients' global norm."""
        return self._train(self._tensors(batch))

    def evaluate(self, batch: Batch) -> tf.Tensor:
        """Changes nothing: float32 [3], the sums."""
        return self._evaluate(self._tensors(batch))

    def _tensors(self, batch: Batch):
        """The batch as tensors, its rows made a multiple of the number of replicas."""
        missing = -len(batch.targets) % self.strategy.num_replicas_in_sync

        def tensor(array: np.ndarray) -> tf.Tensor:
            added = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
            return tf.constant(np.pad(array, added) if missing else array)

        inputs = {name: tensor(array) for name, array in batch.inputs.items()}
        return inputs, tensor(batch.targets), tensor(batch.weights)

    def _rows_of_replica(self, batch):
        """This replica's share: every replica gets the whole batch, which is small, and slices."""
        replicas = self.strategy.num_replicas_in_sync
        if replicas == 1:
            return batch
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.shape(batch[2])[0] // replicas
        return tf.nest.map_structure(lambda x: x[index * rows : (index + 1) * rows], batch)

    def _sums(self, batch, training: bool) -> tf.Tensor:
        """Weighted sums of one replica, float32 [3]."""
        inputs, targets, weights = batch
        loss, hits = self.model.loss_sums(inputs, targets, weights, training=training)
        return tf.stack([loss, hits, tf.reduce_sum(weights)])

    def _plain_sums_and_gradients(self, batch, total_weight):
        """One replica's sums and its part of the gradients of the global batch's mean loss."""
        with tf.GradientTape() as tape:
            sums = self._sums(batch, training=True)
            loss = sums[0] / total_weight
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return sums, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _evaluate_replica(self, batch):
        return self._sums_only(self._rows_of_replica(batch))

    def _train_replica(self, batch):
        context = tf.distribute.get_replica_context()
        batch = self._rows_of_replica(batch)
        total_weight = context.all_reduce("SUM", tf.reduce_sum(batch[2]))
        sums, gradients = self._sums_and_gradients(batch, total_weight)
        gradients = context.all_reduce("SUM", gradients)
        norm = tf.linalg.global_norm(gradients)
        # The optimizer sums over the replicas once more, so each gives its share of the whole.
        scale = tf.minimum(1.0, self.max_grad_norm / (norm + 1e-6))
        scale /= self.strategy.num_replicas_in_sync
        variables = self.model.trainable_variables
        assert self.optimizer is not None
        self.optimizer.apply([gradient * scale for gradient in gradients], variables)
        return sums, norm[tf.newaxis]

    def _total(self, sums) -> tf.Tensor:
        return self.strategy.reduce("SUM", sums, axis=None)


class AnyLength:
    """A function of a batch, traced once for batches of every length.

    A trace for one length rounds otherwise than one for all, so results would depend on which
    batch came first, and a resumed run, which begins elsewhere, would not be the same to the bit.
    """

    def __init__(self, function):
        self.traced = tf.function(function, autograph=False)
        self.known: set[tuple] = set()

    def __call__(self, batch):
        """What the function gives; its batch's first dimension is the only one that is fixed."""
        inputs, targets, _ = batch
        kind = (*sorted(inputs), *targets.shape[:1])
        if kind not in self.known:
            self.known.add(kind)
            # Calls find this trace, since their batches are cases of its signature.
            self.traced.get_concrete_function(tf.nest.map_structure(any_length, batch))
        return self.traced(batch)


def any_length(tensor: tf.Tensor) -> tf.TensorSpec:
    """Tensors of the same first dimension, whatever the others are."""
    return tf.TensorSpec([tensor.shape[0], *[None] * (tensor.shape.rank - 1)], tensor.dtype)


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

"""Functions of a batch as TensorFlow keeps them: traced for all lengths at once, or shape by shape.

Rows of a batch are known in both; what differs is whether a trace knows the lengths too.
"""

import tensorflow as tf


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
        kind = kind_of(batch)
        if kind not in self.known:
            self.known.add(kind)
            # Calls find this trace, since their batches are cases of its signature.
            self.traced.get_concrete_function(tf.nest.map_structure(any_length, batch))
        return self.traced(batch)


def kind_of(batch) -> tuple:
    """What batches that share a trace have in common: the names of their inputs, their rows."""
    inputs, targets, _ = batch
    return (*sorted(inputs), *targets.shape[:1])


class EachShape:
    """A function of a batch, traced for each shape by itself.

    XLA compiles every shape anew, and compiles less where the sizes are known when it is traced.
    The few shapes of packed batches follow from the data, so a resumed run has the same traces.

    Args:
        function: of a batch.
        compiled: whether XLA compiles all of it. What replicas exchange it cannot.
    """

    def __init__(self, function, compiled: bool):
        self.traced = tf.function(function, autograph=False, jit_compile=compiled or None)

    def __call__(self, batch):
        """What the function gives."""
        return self.traced(batch)


def any_length(tensor: tf.Tensor) -> tf.TensorSpec:
    """Tensors of the same first dimension, whatever the others are."""
    return tf.TensorSpec([tensor.shape[0], *[None] * (tensor.shape.rank - 1)], tensor.dtype)

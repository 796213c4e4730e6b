"""What replicas of a model compute differently: what dropout drops."""

import keras
import tensorflow as tf

STRIDE = 1 << 20
"""Between the seeds of two replicas; those of one forward pass are closer together."""


def of_replica(seed: tf.Tensor) -> tf.Tensor:
    """A forward pass's seed, int32 [2], as this replica has it.

    Without that the k-th rows of two replicas would lose the same numbers. The first replica's, and
    the only one's, is the seed itself.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([replica * STRIDE, tf.zeros_like(replica)])


class Dropout(keras.layers.Dropout):
    """As Keras's, but that each replica drops others."""

    def call(self, inputs, training=False):
        """Inputs of any shape to the same."""
        if not training or not self.rate:
            return inputs
        # As Keras does it, so that a run's single device goes on dropping what it dropped.
        seed = tf.math.floormod(self.seed_generator.next(), tf.int32.max - 1)
        seed = of_replica(tf.cast(seed, tf.int32))
        return tf.nn.experimental.stateless_dropout(inputs, rate=self.rate, seed=seed)

"""What `model.compile` takes: the loss of the scripts, and metrics that count what it counts.

A model's batches hold padding of weight 0, and a language model's are of different widths. So a
mean is a sum over what has a weight, divided by the sum of the weights: of a batch for the loss, of
everything seen for a metric. Pass the metrics as `weighted_metrics`: Keras keeps the weights from
those in `metrics`.
"""

import keras
import tensorflow as tf

PACKAGE = "gpt2_tuning"


@keras.saving.register_keras_serializable(package=PACKAGE)
class CrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    """Sum of weight x cross-entropy over a batch, divided by the sum of weights.

    Keras's own default divides by the number of places, padding among them. Labels are integers,
    [B] or [B, K], scores float [B, C] or [B, K, C] and weights as the labels; without weights each
    label counts as 1. In `fit` under a strategy the batch is that of all replicas.
    """

    def __init__(self, name: str = "cross_entropy"):
        super().__init__(from_logits=True, reduction="mean_with_sample_weight", name=name)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The loss, a scalar; of one of several replicas the part that its rows have in the sum."""
        loss = super().__call__(y_true, y_pred, sample_weight)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return loss
        # Keras has divided by the weights of this replica alone, and by the number of replicas.
        weights = keras.ops.ones_like(y_true) if sample_weight is None else sample_weight
        own = keras.ops.sum(keras.ops.cast(weights, loss.dtype))
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, own)
        return loss * keras.ops.divide_no_nan(own, mean)

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Accuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of labels, by weight, whose score is the largest; of tokens for language models.

    Shapes are those of `CrossEntropy`.
    """

    def __init__(self, name: str = "accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch."""
        return super().update_state(*one_a_row(y_true, y_pred, sample_weight))


@keras.saving.register_keras_serializable(package=PACKAGE)
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """exp of the mean cross-entropy, by weight, of everything seen; never a mean of exponentials.

    Shapes are those of `CrossEntropy`.
    """

    def __init__(self, name: str = "perplexity", dtype=None):
        super().__init__(name=name, dtype=dtype, from_logits=True)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch."""
        return super().update_state(*one_a_row(y_true, y_pred, sample_weight))

    def result(self):
        """The perplexity so far, a float32 scalar."""
        return keras.ops.exp(super().result())

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


def one_a_row(labels, scores, weights=None):
    """Labels and weights as [N] and scores as [N, C].

    Keras's metrics take means over rows of K labels first, in which a label of a wide batch counts
    for less than one of a narrow batch.
    """
    ops = keras.ops
    flat = ops.reshape(labels, [-1]), ops.reshape(scores, [-1, scores.shape[-1]])
    return *flat, None if weights is None else ops.reshape(weights, [-1])

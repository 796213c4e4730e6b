"""DoRA: the weights of each output have a length of their own beside a direction that is updated.

The layer computes x m V / ||V|| + b with V = W + scaling * A B, where m and the norms are one
number an output. Source: Liu et al. 2024, https://arxiv.org/abs/2402.09353.
"""

import numpy as np
import tensorflow as tf


def ratio(magnitude, kernel, a, b, scaling) -> tf.Tensor:
    """m / ||V||, float32 [units]. As the paper's section 4.3 has it, the norm is a constant.

    Args:
        magnitude: [units], m.
        kernel: [inputs, units], W.
        a: [inputs, rank].
        b: [rank, units].
        scaling: of the update.
    """
    magnitude, kernel, a, b = (tf.cast(one, tf.float32) for one in (magnitude, kernel, a, b))
    direction = kernel + scaling * tf.matmul(a, b)
    return magnitude / tf.stop_gradient(tf.norm(direction, axis=0))


def difference(plain, low_rank, ratio):
    """What DoRA adds to the base's outputs: [..., units].

    Args:
        plain: [..., units], x W.
        low_rank: [..., units], scaling * x A B, of the same x.
        ratio: [units], as `ratio` has it.
    """
    ratio = tf.cast(ratio, plain.dtype)
    return (ratio - 1) * plain + ratio * low_rank


def length(kernel: np.ndarray, delta: np.ndarray | float = 0.0) -> np.ndarray:
    """||W + delta||, float32 [units]: the length that leaves each output as it is."""
    return np.linalg.norm(kernel.astype(np.float32) + delta, axis=0).astype(np.float32)


def delta(kernel: np.ndarray, magnitude: np.ndarray, update: np.ndarray) -> np.ndarray:
    """What the adapter adds to a kernel, float32 [inputs, units]."""
    direction = kernel + update
    return (magnitude / length(direction)) * direction - kernel

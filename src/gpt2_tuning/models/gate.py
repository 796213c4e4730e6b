"""Whether a model's low-rank updates are computed, and what is kept while they are merged."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf


class MergedKernels(NamedTuple):
    """What a model remembers while its updates are merged into its kernels."""

    kept: dict[str, np.ndarray]
    """The kernels from before, by their names in files."""
    difference: float
    """That of the outputs on the probe batch, as a share of the largest output."""


class Gate:
    """What a model's passes multiply its updates by, unless they are given something else.

    It is a variable, because a Python number would be frozen into functions traced before it
    changed; and it is held in this plain object, because Keras would otherwise count it as a
    weight of the model.
    """

    def __init__(self) -> None:
        # Without `autocast` it stays in float32 inside models of other types.
        self.variable = keras.Variable(
            1.0, trainable=False, dtype="float32", autocast=False, name="lora_gate"
        )
        self.merged: MergedKernels | None = None

    @property
    def on(self) -> bool:
        """Whether the updates are computed."""
        return bool(self.variable.numpy())

    def set(self, on: bool) -> None:
        """Turns every update on or off, in functions that are already traced too."""
        self.variable.assign(1.0 if on else 0.0)

    def value(self) -> tf.Tensor | None:
        """The gate of a pass, a float32 scalar; None while the updates are merged.

        What is traced then has no products of updates, and would go on without them after
        `unmerge`; so it looks whether the updates are still merged.
        """
        gate = tf.convert_to_tensor(self.variable)
        if self.merged is None:
            return gate
        if not tf.executing_eagerly():
            tf.debugging.assert_equal(
                gate, 0.0, "this function was traced while the model was merged: make it anew"
            )
        return None

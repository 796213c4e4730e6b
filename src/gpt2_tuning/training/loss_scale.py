"""Loss scaling, without which the small gradients of float16 would come out as zero."""

import keras
import tensorflow as tf

FIRST = 2.0**15
GROWS_AFTER = 2000
"""Steps without an overflow before the scale is doubled."""


class LossScale:
    """A factor on the loss, taken out of its gradients again, that follows what float16 can hold.

    A step whose gradients overflow is left out and halves the scale; a long time without one
    doubles it. Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
    """

    def __init__(self) -> None:
        self.scale = keras.Variable(FIRST, trainable=False, dtype="float32", name="loss_scale")
        self.steps = keras.Variable(0, trainable=False, dtype="int32", name="fine_steps")

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint must hold."""
        return [self.scale, self.steps]

    @property
    def value(self) -> tf.Tensor:
        """The factor of this moment, a float32 scalar."""
        return tf.convert_to_tensor(self.scale)

    def after_step(self, results: tf.Tensor) -> tf.Tensor:
        """Follows what a step came to.

        Args:
            results: float32 [n]; the last is the gradients' norm.

        Returns:
            The same, but for the norm of a step that was left out: 0, or NaN where even a scale of
            1 overflows, so that no smaller one can help.
        """
        scale, finite = self.value, tf.math.is_finite(results[-1])
        steps = tf.where(finite, tf.convert_to_tensor(self.steps) + 1, 0)
        grows = steps >= GROWS_AFTER
        larger = tf.where(grows, scale * 2, scale)
        self.scale.assign(tf.where(finite, larger, tf.maximum(scale / 2, 1.0)))
        self.steps.assign(tf.where(grows, 0, steps))
        left_out = tf.where(scale > 1, 0.0, float("nan"))
        norm = tf.where(finite, results[-1], left_out)
        return tf.concat([results[:-1], norm[tf.newaxis]], axis=0)

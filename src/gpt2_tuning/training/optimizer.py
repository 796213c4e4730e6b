"""AdamW and Adafactor, with a linear warm-up and a cosine after it."""

import keras
import numpy as np
import tensorflow as tf

UNDECAYED = ("bias", "gamma", "beta", "lora_magnitude")


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup` updates, then falls along a cosine to 0 at `total`.

    The first update already moves (its rate is peak / warmup), the last one still does.
    """

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step):
        """The rate of update number `step`, counted from 0: a float32 scalar."""
        step = keras.ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup, 1)
        done = (step - self.warmup) / max(self.total - self.warmup, 1)
        falling = 0.5 * (1 + keras.ops.cos(np.pi * keras.ops.clip(done, 0, 1)))
        return self.peak * keras.ops.where(step < self.warmup, rising, falling)

    def get_config(self):
        """The constructor's arguments."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


class OfSummedGradients:
    """An optimizer whose gradients come summed over all replicas already.

    Clipping needs the sum before the update does, and a second sum would double what travels
    between devices.
    """

    b_rate_ratio: float = 1.0
    """The rate of LoRA's B over that of all else (Hayou et al. 2024, LoRA+,
    https://arxiv.org/abs/2402.12354). Weight decay goes by the common rate."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Leaves the sum alone, where Keras would sum over the replicas."""
        return list(grads_and_vars)

    def rate_of(self, variable, learning_rate):
        """The rate at which a variable is updated."""
        return learning_rate * (self.b_rate_ratio if "lora_B" in variable.name else 1.0)


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class Adafactor(OfSummedGradients, keras.optimizers.Adafactor):
    """Keras's Adafactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235)."""

    def update_step(self, gradient, variable, learning_rate):
        """Keras's own, at the variable's rate."""
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class FusedAdamW(OfSummedGradients, keras.optimizers.AdamW):
    """Keras's AdamW with TensorFlow's fused update, which reads and writes each weight once.

    Keras writes the update as a dozen operations over whole arrays; with a vocabulary of 50,257
    rows they took longer than the rest of a small model's step.
    """

    def update_step(self, gradient, variable, learning_rate):
        """The same arithmetic as Keras's own, in place."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(self.rate_of(variable, learning_rate), variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


def make_optimizer(
    name: str,
    learning_rate: float,
    weight_decay: float,
    updates: int,
    warmup_share: float,
    b_rate_ratio: float = 1.0,
) -> keras.optimizers.Optimizer:
    """An optimizer by its flag; biases and LayerNorms do not decay.

    Args:
        name: `adamw` (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), or `adafactor`,
            which needs about half of its memory.
        learning_rate: the schedule's peak.
        weight_decay: the share of a weight that an update at rate 1 takes off.
        updates: in the whole run.
        warmup_share: the share of them over which the rate rises.
        b_rate_ratio: the rate of LoRA's B over that of all else.
    """
    schedule = WarmupCosine(learning_rate, round(updates * warmup_share), updates)
    if name == "adafactor":
        optimizer = Adafactor(schedule, weight_decay=weight_decay, relative_step=False)
    else:
        optimizer = FusedAdamW(schedule, weight_decay=weight_decay, epsilon=1e-8)
    optimizer.b_rate_ratio = b_rate_ratio
    optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return optimizer

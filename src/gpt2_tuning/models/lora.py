"""A dense layer whose low-rank update can be switched while its weights keep their names.

With or without LoRA the layer holds `kernel` and `bias`, so a base checkpoint always fits; LoRA
only adds `lora_A` and `lora_B` beside them.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.config import LoRAUpdate
from gpt2_tuning.errors import UserError
from gpt2_tuning.models import kernels
from gpt2_tuning.models.products import differentiable_product


class MergedKernels(NamedTuple):
    """What a model remembers while its updates are merged into its kernels."""

    kept: dict[str, np.ndarray]
    """The kernels from before, by their names in Hugging Face's files."""
    difference: float
    """The largest difference of the outputs on the probe batch."""


class LoRASwitch:
    """One number, 1 or 0: whether the low-rank updates of a model are computed.

    It is a variable, because a Python flag would be frozen into functions traced before it
    changed; and it is held in this plain object, because Keras would otherwise count it as a
    weight of the model.
    """

    def __init__(self) -> None:
        self.variable = keras.Variable(1.0, trainable=False, dtype="float32", name="lora_switch")
        self.merged: MergedKernels | None = None

    @property
    def on(self) -> bool:
        """Whether the updates are computed."""
        return bool(self.variable.numpy())

    def set(self, on: bool) -> None:
        """Turns every update on or off, in functions that are already traced too."""
        self.variable.assign(1.0 if on else 0.0)


class LoRADense(keras.layers.Layer):
    """x W + b + scaling * dropout(x) A B over the last axis of x; without A B when switched off.

    A is (inputs, rank) and random, B is (rank, units) and zero: training starts at the base model.
    Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    Args:
        units: size of the output's last axis.
        kernel_initializer: of W; b starts at zero.
        update: rank, scaling and dropout of the low-rank update; None leaves A and B out.
        switch: shared by the layers of a model; needed where there is an update.
    """

    def __init__(
        self,
        units: int,
        kernel_initializer="glorot_uniform",
        update: LoRAUpdate | None = None,
        switch: LoRASwitch | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.update = update
        self._switch = switch
        if update is not None:
            self._switch = switch or LoRASwitch()

    def build(self, input_shape):
        """Adds the weights for inputs whose last axis is `input_shape[-1]`."""
        inputs = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(inputs, self.units), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        if self.update is None:
            return
        rank = self.update.rank
        if rank > min(inputs, self.units):
            raise UserError(
                f"LoRA rank {rank} is above the size of {self.name}, {inputs} x {self.units}"
            )
        # Kaiming uniform with a = sqrt(5), as PEFT initialises A: +-1/sqrt(inputs).
        bound = inputs**-0.5
        self.lora_A = self.add_weight(
            name="lora_A",
            shape=(inputs, rank),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            dtype=trained_policy(self.dtype_policy).variable_dtype,
        )
        self.lora_B = self.add_weight(
            name="lora_B",
            shape=(rank, self.units),
            initializer="zeros",
            dtype=trained_policy(self.dtype_policy).variable_dtype,
        )

    def call(self, inputs, seed=None):
        """[..., inputs] to [..., units]; `seed`, int32 [2], is the dropout's, None in inference."""
        outputs = project(inputs, self.kernel, self.bias)
        if self.update is None or self._switch is None:
            return outputs
        a, b = (tf.cast(factor, self.compute_dtype) for factor in (self.lora_A, self.lora_B))
        scaling = tf.cast(tf.constant(self.update.scaling, tf.float32), b.dtype)
        # Chosen, not multiplied by 0, which would leave NaN and infinity as NaN.
        on = self._switch.variable.value > 0
        a, b = tf.where(on, a, tf.zeros_like(a)), tf.where(on, scaling * b, tf.zeros_like(b))
        if seed is not None and self.update.dropout:
            inputs = kernels.dropout(inputs, seed, rate=self.update.dropout, compiled=True)
        return outputs + project(project(inputs, a), b)

    def lora_delta(self):
        """What the update adds to the kernel when it is on: float32 [inputs, units].

        Computed with numpy, since a GPU would round the factors to TensorFloat-32.
        """
        assert self.update is not None
        factors = (self.lora_A, self.lora_B)
        a, b = (factor.numpy().astype(np.float32) for factor in factors)
        return np.float32(self.update.scaling) * (a @ b)

    def compute_output_shape(self, input_shape):
        """The input's shape with `units` as its last axis."""
        return (*input_shape[:-1], self.units)


def trained_policy(policy: keras.DTypePolicy) -> keras.DTypePolicy:
    """The policy of weights that are tuned in a model of this policy: held in float32 at least.

    A model whose policy is `bfloat16` or `float16` holds its weights in that type, which suits a
    frozen base; an update of a tuned weight would often be too small to change such a number.
    """
    if policy.variable_dtype in ("bfloat16", "float16"):
        return keras.DTypePolicy(f"mixed_{policy.compute_dtype}")
    return policy


def project(inputs, kernel, bias=None):
    """inputs [..., n] times kernel [n, m], plus bias [m]: one flat product, oneDNN's fastest."""
    kernel = tf.convert_to_tensor(kernel)
    flat = differentiable_product(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
    if bias is not None:
        flat = tf.nn.bias_add(flat, tf.convert_to_tensor(bias))
    return tf.reshape(flat, [*kernels.leading_sizes(inputs), kernel.shape[1]])

"""A dense layer whose low-rank update comes through a gate, while its weights keep their names.

With or without LoRA the layer holds `kernel` and `bias`, so a base checkpoint always fits; LoRA
only adds `lora_A` and `lora_B` beside them.
"""

from collections.abc import Mapping

import keras
import tensorflow as tf

from gpt2_tuning.config import LoRAUpdate
from gpt2_tuning.models import dora, kernels
from gpt2_tuning.models.kept_results import kept_result
from gpt2_tuning.models.keras_types import Layer
from gpt2_tuning.models.mixture import BlockMixture, Factors, without
from gpt2_tuning.models.products import project

Updates = Mapping[str, LoRAUpdate]
"""The low-rank updates of a block's dense layers, by their place in it."""


class LoRADense(Layer):
    """x W + b + gate * scaling * dropout(x) A B over the last axis of x.

    A is (inputs, rank) and random, B is (rank, units) and zero: training starts at the base model.
    With DoRA the sum has lengths of its own: see models/dora.py.
    Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    Args:
        units: size of the output's last axis.
        kernel_initializer: of W; b starts at zero.
        update: rank, scaling and dropout of the low-rank update; None leaves A and B out.
        place: its own in a block, by which it finds its updates in a BlockMixture.
        use_bias: whether there is b.
    """

    def __init__(
        self,
        units: int,
        kernel_initializer="glorot_uniform",
        update: LoRAUpdate | None = None,
        place: str = "",
        use_bias: bool = True,
        **kwargs,
    ):
        # A gate keeps its own type.
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.update = update
        self.place = place
        self.use_bias = use_bias

    def build(self, input_shape):
        """Adds the weights for inputs whose last axis is `input_shape[-1]`."""
        inputs = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(inputs, self.units), initializer=self.kernel_initializer
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        if self.update is None:
            return
        rank = self.update.rank
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
        if self.update.init != "default":
            frozen = {"initializer": "zeros", "trainable": False, "dtype": self.lora_A.dtype}
            self.start_A = self.add_weight(name="start_A", shape=(inputs, rank), **frozen)
            self.start_B = self.add_weight(name="start_B", shape=(rank, self.units), **frozen)
        if self.update.dora:
            self.lora_magnitude = self.add_weight(
                name="lora_magnitude",
                shape=(self.units,),
                initializer="ones",
                dtype=trained_policy(self.dtype_policy).variable_dtype,
            )

    def call(self, inputs, seed=None, gate=None):
        """[..., inputs] to [..., units].

        Args:
            inputs: [..., inputs].
            seed: int32 [2], of the update's dropout; None in inference.
            gate: float32, what the update is multiplied by: one number, or [B, 1, 1] for inputs of
                [B, T, inputs]. Where it is 0 the result is the base's, even if A or B is not
                finite. None leaves the update's products out. Or a BlockMixture, of which the
                update is one.
        """
        inputs, kernel = map(self._computed, (inputs, self.kernel))
        bias = self._computed(self.bias) if self.use_bias else None
        factors = [inputs, kernel] if bias is None else [inputs, kernel, bias]
        outputs = kept_result(self.place, project, *factors)
        if isinstance(gate, BlockMixture):
            return gate.added(outputs, self.place, inputs, kernel, bias, seed)
        if self.update is None or gate is None:
            return outputs
        a, b = self._computed(self.lora_A), self._computed(self.lora_B)
        scaling = tf.constant(self.update.scaling, tf.float32)
        by_row = gate.shape.rank > 0
        # Chosen, not multiplied by 0, which would leave NaN and infinity as NaN.
        on = tf.reduce_any(gate != 0)
        if self.update.dora:
            return outputs + self._with_lengths(outputs, inputs, kernel, bias, seed, gate)
        factor = tf.cast(scaling if by_row else gate * scaling, b.dtype)
        a, b = tf.where(on, a, tf.zeros_like(a)), tf.where(on, factor * b, tf.zeros_like(b))
        before = inputs
        if seed is not None and self.update.dropout:
            inputs = kernels.dropout(inputs, seed, rate=self.update.dropout, compiled=True)
        update = project(project(inputs, a), b)
        if self.update.init != "default":
            # What the base goes without is no part of what dropout is on.
            a, b = self._computed(self.start_A), self._computed(self.start_B)
            update -= project(project(before, a), tf.where(on, factor * b, tf.zeros_like(b)))
        if by_row:
            update = tf.where(gate != 0, tf.cast(gate, update.dtype) * update, 0)
        return outputs + update

    def _with_lengths(self, outputs, inputs, kernel, bias, seed, gate):
        """What DoRA adds to outputs [..., units] of inputs [..., inputs], times the gate.

        Where dropout is on, the base's product too is of inputs with it, as PEFT has it.
        """
        update = self.update
        assert update is not None
        on = tf.reduce_any(gate != 0)
        a, b = (tf.convert_to_tensor(one) for one in (self.lora_A, self.lora_B))
        ratio = dora.ratio(self.lora_magnitude, kernel, a, b, update.scaling)
        a, b = tf.where(on, a, tf.zeros_like(a)), tf.where(on, update.scaling * b, tf.zeros_like(b))
        ratio = tf.where(on, ratio, tf.ones_like(ratio))
        if seed is not None and update.dropout:
            inputs = kernels.dropout(inputs, seed, rate=update.dropout, compiled=True)
            plain = project(inputs, kernel)
        else:
            plain = without(outputs, bias)
        low_rank = project(project(inputs, self._computed(a)), self._computed(b))
        added = tf.cast(gate, plain.dtype) * dora.difference(plain, low_rank, ratio)
        return tf.where(gate != 0, added, tf.zeros([], added.dtype))

    def _computed(self, value):
        """A tensor or a variable as a tensor of the compute type."""
        return tf.cast(tf.convert_to_tensor(value), self.compute_dtype)

    def factors(self) -> Factors:
        """The update."""
        assert self.update is not None
        magnitude = self.lora_magnitude if self.update.dora else None
        update = self.update
        start = None if update.init == "default" else (self.start_A, self.start_B)
        return Factors(self.lora_A, self.lora_B, update.scaling, update.dropout, magnitude, start)

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

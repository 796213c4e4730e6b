"""One block of a decoder: attention and MLP, each on a normalised copy and added to the stream.

What a block computes follows from its weights and its arguments alone; what differs between the
blocks of a decoder is among these. So identical blocks can be compiled once, in a loop over their
stacked weights: inside keras.StatelessScope the code of one block runs on the weights of any.
"""

from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.families.decoder_config import DecoderConfig
from gpt2_tuning.models import kernels
from gpt2_tuning.models.attention import attention, by_token
from gpt2_tuning.models.cache import write_slots
from gpt2_tuning.models.initial import BaseNormal
from gpt2_tuning.models.inputs import gathered
from gpt2_tuning.models.keras_types import Layer
from gpt2_tuning.models.lora import LoRADense, Updates
from gpt2_tuning.models.norm import LayerNorm

WRITES_TO_STREAM = ("attention.out", "mlp.down")


class DropoutSeeds(NamedTuple):
    """int32 [2] for every dropout of a block, in training; None in inference."""

    qkv: tf.Tensor | None = None
    weights: tf.Tensor | None = None
    attention_out: tf.Tensor | None = None
    after_attention: tf.Tensor | None = None
    up: tf.Tensor | None = None
    down: tf.Tensor | None = None
    after_mlp: tf.Tensor | None = None

    @classmethod
    def of_block(cls, seed: tf.Tensor | None, block: int | tf.Tensor) -> "DropoutSeeds":
        """Those of one block, all different, from the seed of a forward pass.

        Args:
            seed: int32 [2]; None in inference.
            block: its number, which may be known to the graph alone.
        """
        if seed is None:
            return cls()
        first = block * len(cls._fields)
        return cls(*(seed + tf.stack([first + place, 0]) for place in range(len(cls._fields))))


INFERENCE = DropoutSeeds()


class Attention(Layer):
    """Causal self-attention with several heads and fused query, key and value projections."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.qkv = dense("attention.qkv", config, updates, self.dtype_policy)
        self.out = dense("attention.out", config, updates, self.dtype_policy)

    def build(self, input_shape):
        """Builds the projections for [B, T, width]."""
        self.qkv.build(input_shape)
        self.out.build((*input_shape[:-1], self.config.attention_width))

    def call(self, x, visible, seeds=INFERENCE, gate=None, at=None):
        """Attends within x.

        Args:
            x: [B, T, width].
            visible: bool [B, T, T], which tokens each token sees.
            seeds: a DropoutSeeds.
            gate: of the low-rank updates, as LoRADense's.
            at: int32 [B, K], the places of x whose results are wanted; None is all of them.

        Returns:
            [B, T, width], or [B, K, width] with `at`.
        """
        query, key, value = self._parts(x, seeds, gate)
        if at is not None:
            query, visible = gathered(query, at), gathered(visible, at)
        # With `at`, little work in as many shapes: compiling would cost more than it brings.
        compiled = seeds.weights is not None and at is None
        heads = (self._by_head(query), self._by_head(key), self._by_head(value))
        return self._mixed(query, heads, visible, seeds, gate, compiled)

    def extend(self, x, visible, past, filled, gate=None):
        """Attends from x to a cache that x is first written into.

        Args:
            x: [B, T, width].
            visible: bool [B, T, S].
            past: (keys, values) of this layer, each [B, heads, S, head_size].
            filled: int32 scalar, the slot of `past` that the first token of x goes to.
            gate: as for `call`.

        Returns:
            [B, T, width], and the new (keys, values).
        """
        query, *new = self._parts(x, INFERENCE, gate)
        key, value = (
            write_slots(slots, self._by_head(part), filled)
            for slots, part in zip(past, new, strict=True)
        )
        heads = (self._by_head(query), key, value)
        mixed = self._mixed(query, heads, visible, INFERENCE, gate, compiled=False)
        return mixed, (key, value)

    def _parts(self, x, seeds, gate):
        return tf.split(self.qkv(x, seed=seeds.qkv, gate=gate), 3, axis=2)

    def _by_head(self, x):
        """[B, T, width of all heads] to [B, heads, T, head_size]."""
        heads = [self.config.heads, self.config.head_size]
        return by_token(tf.reshape(x, [*kernels.leading_sizes(x), *heads]))

    def _mixed(self, like, heads, visible, seeds, gate, compiled):
        """The values seen, mixed and projected, of as many tokens as `like` has."""
        query, key, value = heads
        mixed = attention(
            query,
            key,
            value,
            visible,
            seeds.weights,
            scale=self.config.score_scale,
            rate=self.config.dropouts.attention,
            compiled=compiled,
        )
        flat = [*kernels.leading_sizes(like), self.config.attention_width]
        return self.out(tf.reshape(mixed, flat), seed=seeds.attention_out, gate=gate)


class MLP(Layer):
    """Two dense layers with the tanh form of GELU between them."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.up = dense("mlp.up", config, updates, self.dtype_policy)
        self.down = dense("mlp.down", config, updates, self.dtype_policy)

    def build(self, input_shape):
        """Builds the two layers for [B, T, width]."""
        self.up.build(input_shape)
        self.down.build((*input_shape[:-1], self.config.mlp_width))

    def call(self, x, seeds=INFERENCE, gate=None):
        """[B, T, width] to the same; `seeds` is a DropoutSeeds, `gate` as LoRADense's."""
        x = self.up(x, seed=seeds.up, gate=gate)
        x = kernels.gelu(x, compiled=seeds.up is not None)
        return self.down(x, seed=seeds.down, gate=gate)


class Block(Layer):
    """Attention and MLP around a residual stream."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        dtype = self.dtype_policy
        self.rate = config.dropouts.residual
        self.norm_1 = LayerNorm(config.norm_epsilon, dtype=dtype, name="norm_1")
        self.attention = Attention(config, updates, dtype=dtype, name="attention")
        self.norm_2 = LayerNorm(config.norm_epsilon, dtype=dtype, name="norm_2")
        self.mlp = MLP(config, updates, dtype=dtype, name="mlp")

    def build(self, input_shape):
        """Builds all parts for [B, T, width]."""
        for layer in (self.norm_1, self.attention, self.norm_2, self.mlp):
            layer.build(input_shape)

    def compute_output_shape(self, input_shape):
        """Of the hidden states, for `summary`: the input's."""
        return input_shape

    def call(self, x, visible, seeds=INFERENCE, gate=None, at=None):
        """[B, T, width] to the same; see Attention.

        With `at`, int32 [B, K], it gives and computes those places of x alone: [B, K, width].
        """
        normal = self.norm_1(x, compiled=seeds.after_attention is not None)
        update = self.attention(normal, visible, seeds, gate=gate, at=at)
        return self._after_attention(x if at is None else gathered(x, at), update, seeds, gate)

    def extend(self, x, visible, past, filled, gate=None):
        """The same for a continuation of a cache, and this layer's new (keys, values)."""
        update, present = self.attention.extend(self.norm_1(x), visible, past, filled, gate)
        return self._after_attention(x, update, INFERENCE, gate), present

    def _after_attention(self, x, update, seeds, gate):
        """The stream with attention's update and then the MLP's."""
        training = seeds.after_attention is not None
        x += kernels.dropout(update, seeds.after_attention, rate=self.rate, compiled=training)
        update = self.mlp(self.norm_2(x, compiled=training), seeds, gate=gate)
        return x + kernels.dropout(update, seeds.after_mlp, rate=self.rate, compiled=training)


def dense(place: str, config: DecoderConfig, updates: Updates, dtype) -> LoRADense:
    """A block's dense layer, named by its place's last part, with LoRA where it has an update."""
    writes = place in WRITES_TO_STREAM
    spread = config.residual_spread if writes else config.initial_spread
    return LoRADense(
        config.dense[place][1],
        kernel_initializer=BaseNormal(stddev=spread),
        update=updates.get(place),
        place=place,
        dtype=dtype,
        name=place.rpartition(".")[2],
    )

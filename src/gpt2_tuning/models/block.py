"""One block of a decoder: attention and MLP, each on a normalised copy and added to the stream.

What a block computes follows from its weights and its arguments alone; what differs between the
blocks of a decoder is among these. So identical blocks can be compiled once, in a loop over their
stacked weights (block_loop.py).
"""

from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.families.decoder_config import GATED, DecoderConfig
from gpt2_tuning.models import kernels
from gpt2_tuning.models.attention import apart, attention, by_token
from gpt2_tuning.models.initial import BaseNormal
from gpt2_tuning.models.inputs import gathered
from gpt2_tuning.models.kept_results import MIXED, kept_result
from gpt2_tuning.models.keras_types import Layer
from gpt2_tuning.models.lora import LoRADense, Updates
from gpt2_tuning.models.norm import NORMS, RMSNorm
from gpt2_tuning.models.rotary import rotated
from gpt2_tuning.models.seen import seen_at

WRITES_TO_STREAM = ("attention.out", "mlp.down")
ACTIVATIONS = {"gelu_tanh": kernels.gelu, "gelu": kernels.exact_gelu}
"""Of the MLPs whose first layer is one."""


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


def other_seed(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Another seed from a block's own, far from those of all steps, which count up.

    Args:
        seed: int32 [2]; None in inference.
        number: 0, which is the seed itself, to 3.
    """
    return seed if seed is None or not number else seed + tf.constant([0, number * 2**28])


class Attention(Layer):
    """Causal self-attention with several heads, of which groups may share keys and values."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        dtype = self.dtype_policy
        if config.fused:
            self.qkv = dense("attention.qkv", config, updates, dtype)
        else:
            self.query = dense("attention.query", config, updates, dtype)
            self.key = dense("attention.key", config, updates, dtype)
            self.value = dense("attention.value", config, updates, dtype)
        if config.head_norms:
            self.query_norm = RMSNorm(config.norm_epsilon, dtype=dtype, name="query_norm")
            self.key_norm = RMSNorm(config.norm_epsilon, dtype=dtype, name="key_norm")
        self.out = dense("attention.out", config, updates, dtype)

    def build(self, input_shape):
        """Builds the projections for [B, T, width]."""
        for layer in (self.qkv,) if self.config.fused else (self.query, self.key, self.value):
            layer.build(input_shape)
        if self.config.head_norms:
            self.query_norm.build((None, None, None, self.config.head_size))
            self.key_norm.build((None, None, None, self.config.head_size))
        self.out.build((*input_shape[:-1], self.config.attention_width))

    def call(self, x, visible, seeds=INFERENCE, gate=None, at=None, rotation=None):
        """Attends within x.

        Args:
            x: [B, T, width].
            visible: which tokens each token sees: bool [B, T, T], or a Seen, by which the scores
                exist block by block.
            seeds: a DropoutSeeds.
            gate: of the low-rank updates, as LoRADense's.
            at: int32 [B, K], the places of x whose results are wanted; None is all of them.
            rotation: of the tokens, where positions come in so.

        Returns:
            [B, T, width], or [B, K, width] with `at`.
        """
        query, key, value = self._parts(x, seeds, gate, rotation)
        if at is not None:
            query, visible = gathered(query, at), seen_at(visible, at)
        # With `at`, little work in as many shapes: compiling would cost more than it brings.
        compiled = seeds.weights is not None and at is None
        heads = (self._by_head(query), self._by_head(key), self._by_head(value))
        return self._mixed(query, heads, visible, seeds, gate, compiled)

    def extend(self, x, visible, past, write, gate=None, rotation=None):
        """Attends from x to a cache that x is first written into, its keys rotated.

        Args:
            x: [B, T, width].
            visible: bool [B, T, S].
            past: (keys, values) of this layer, each [B, kv_heads, S, head_size].
            write: puts new keys or values, [B, kv_heads, T, head_size], into those of `past`.
            gate: as for `call`.
            rotation: as for `call`.

        Returns:
            [B, T, width], and the new (keys, values).
        """
        query, *new = self._parts(x, INFERENCE, gate, rotation)
        key, value = (
            write(slots, self._by_head(part)) for slots, part in zip(past, new, strict=True)
        )
        heads = (self._by_head(query), key, value)
        mixed = self._mixed(query, heads, visible, INFERENCE, gate, compiled=False)
        return mixed, (key, value)

    def _parts(self, x, seeds, gate, rotation):
        """Queries [B, T, heads x head_size], keys and values [B, T, kv_heads x head_size]."""
        if self.config.fused:
            query, key, value = self._split(self.qkv(x, seed=seeds.qkv, gate=gate))
        else:
            query, key, value = (
                layer(x, seed=other_seed(seeds.qkv, number), gate=gate)
                for number, layer in enumerate((self.query, self.key, self.value))
            )
        compiled = seeds.qkv is not None
        if self.config.head_norms:
            query = self._of_each_head(query, self.query_norm, compiled=compiled)
            key = self._of_each_head(key, self.key_norm, compiled=compiled)
        if rotation is not None:
            query = self._of_each_head(query, rotated, rotation, compiled=compiled)
            key = self._of_each_head(key, rotated, rotation, compiled=compiled)
        return query, key, value

    def _split(self, qkv):
        """What one layer gives, [B, T, 3 x heads x head_size], as queries, keys and values."""
        if not self.config.fused_by_head:
            return tf.split(qkv, 3, axis=2)
        sizes, head_size = kernels.leading_sizes(qkv), self.config.head_size
        by_head = tf.reshape(qkv, [*sizes, self.config.heads, 3 * head_size])
        flat = [*sizes, self.config.attention_width]
        return [tf.reshape(part, flat) for part in tf.split(by_head, 3, axis=3)]

    def _of_each_head(self, x, function, *arguments, compiled):
        """A function of [B, T, heads, head_size] on heads that lie side by side."""
        sizes, head_size = kernels.leading_sizes(x), self.config.head_size
        heads = tf.reshape(x, [*sizes, x.shape[2] // head_size, head_size])
        return tf.reshape(function(heads, *arguments, compiled=compiled), [*sizes, x.shape[2]])

    def _by_head(self, x):
        """[B, T, width of all heads] to [B, kv_heads, T, head_size]; queries as `attention` has."""
        heads = self.config.kv_heads
        group = x.shape[2] // (heads * self.config.head_size)
        by_head = tf.reshape(x, [*kernels.leading_sizes(x), heads, x.shape[2] // heads])
        return apart(by_token(by_head), group)

    def _mixed(self, like, heads, visible, seeds, gate, compiled):
        """The values seen, mixed and projected, of as many tokens as `like` has."""
        flat = [*kernels.leading_sizes(like), self.config.attention_width]

        def mixed(query, key, value):
            by_head = attention(
                query,
                key,
                value,
                visible,
                seeds.weights,
                scale=self.config.score_scale,
                rate=self.config.dropouts.attention,
                compiled=compiled,
                group=self.config.group,
            )
            return tf.reshape(by_head, flat)

        values = kept_result(MIXED, mixed, *heads)
        return self.out(values, seed=seeds.attention_out, gate=gate)


class MLP(Layer):
    """Two dense layers around an activation: a form of GELU, or SiLU of a third that gates."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.gated = config.mlp in GATED
        if self.gated:
            self.gate = dense("mlp.gate", config, updates, self.dtype_policy)
        self.up = dense("mlp.up", config, updates, self.dtype_policy)
        self.down = dense("mlp.down", config, updates, self.dtype_policy)

    def build(self, input_shape):
        """Builds the layers for [B, T, width]."""
        if self.gated:
            self.gate.build(input_shape)
        self.up.build(input_shape)
        self.down.build((*input_shape[:-1], self.config.mlp_width))

    def call(self, x, seeds=INFERENCE, gate=None):
        """[B, T, width] to the same; `seeds` is a DropoutSeeds, `gate` as LoRADense's."""
        compiled = seeds.up is not None
        up = self.up(x, seed=seeds.up, gate=gate)
        if self.gated:
            gating = self.gate(x, seed=other_seed(seeds.up, 1), gate=gate)
            x = kernels.gated_silu(gating, up, compiled=compiled)
        else:
            x = ACTIVATIONS[self.config.mlp](up, compiled=compiled)
        return self.down(x, seed=seeds.down, gate=gate)


class Block(Layer):
    """Attention and MLP around a residual stream."""

    def __init__(self, config: DecoderConfig, updates: Updates, **kwargs):
        super().__init__(autocast=False, **kwargs)
        dtype = self.dtype_policy
        self.config = config
        self.rate, self.parallel = config.dropouts.residual, config.parallel
        norm = NORMS[config.norm]
        self.norm_1 = norm(config.norm_epsilon, dtype=dtype, name="norm_1")
        self.attention = Attention(config, updates, dtype=dtype, name="attention")
        self.norm_2 = norm(config.norm_epsilon, dtype=dtype, name="norm_2")
        self.mlp = MLP(config, updates, dtype=dtype, name="mlp")

    def build(self, input_shape):
        """Builds all parts for [B, T, width]."""
        for layer in (self.norm_1, self.attention, self.norm_2, self.mlp):
            layer.build(input_shape)

    def compute_output_shape(self, input_shape):
        """Of the hidden states, for `summary`: the input's."""
        return input_shape

    def call(self, x, visible, seeds=INFERENCE, gate=None, at=None, rotation=None):
        """[B, T, width] to the same; see Attention.

        With `at`, int32 [B, K], it gives and computes those places of x alone: [B, K, width].
        """
        normal = self.norm_1(x, compiled=seeds.after_attention is not None)
        update = self.attention(
            normal, visible=visible, seeds=seeds, gate=gate, at=at, rotation=rotation
        )
        return self._after_attention(x if at is None else gathered(x, at), update, seeds, gate)

    def extend(self, x, visible, past, write, gate=None, rotation=None):
        """The same for a continuation of a cache, and this layer's new (keys, values)."""
        normal = self.norm_1(x)
        update, present = self.attention.extend(normal, visible, past, write, gate, rotation)
        return self._after_attention(x, update, INFERENCE, gate), present

    def _after_attention(self, x, update, seeds, gate):
        """The stream with attention's update and then the MLP's."""
        training = seeds.after_attention is not None
        read = x
        x += kernels.dropout(update, seeds.after_attention, rate=self.rate, compiled=training)
        read = read if self.parallel else x
        update = self.mlp(self.norm_2(read, compiled=training), seeds, gate=gate)
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
        use_bias=place in config.biases,
        dtype=dtype,
        name=place.rpartition(".")[2],
    )

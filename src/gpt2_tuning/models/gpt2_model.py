"""GPT-2 (Radford et al. 2019) from token ids to hidden states, with Hugging Face's names.

One rule serves padded, packed and cached input alike: from the mask follows which tokens a token
sees, and its position is the number of them before it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from gpt2_tuning.config import GPT2Config, LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.lora import LoRADense, LoRASwitch
from gpt2_tuning.models.tunable import TunableModel

MASKED = -1e9
"""The float32 score of a token that must not be seen: its weight comes out as exactly 0."""


class Cache(NamedTuple):
    """Keys and values of the tokens computed so far, for decoding one token after another.

    Every row is filled at the same slots, so shorter prompts are padded on the left.
    """

    keys: tuple[tf.Tensor, ...]  # one a layer: [B, heads, slots, head_size]
    values: tuple[tf.Tensor, ...]  # one a layer: [B, heads, slots, head_size]
    mask: tf.Tensor  # int32 [B, slots], 1 where the slot holds a real token
    filled: tf.Tensor  # int32 scalar: slots used so far

    def grown(self, extra) -> "Cache":
        """The same with `extra` more slots, empty ones, behind the others."""
        keys, values = (
            tuple(tf.pad(part, [[0, 0], [0, 0], [0, extra], [0, 0]]) for part in parts)
            for parts in (self.keys, self.values)
        )
        return Cache(keys, values, tf.pad(self.mask, [[0, 0], [0, extra]]), self.filled)


class GPT2Attention(keras.layers.Layer):
    """Causal self-attention with several heads and fused query, key and value projections."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.c_attn = block_dense("attn.c_attn", 3 * config.n_embd, self, lora, switch)
        self.c_proj = block_dense("attn.c_proj", config.n_embd, self, lora, switch)
        self.attn_dropout = keras.layers.Dropout(config.attn_pdrop, dtype=self.dtype_policy)
        self.resid_dropout = keras.layers.Dropout(config.resid_pdrop, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Builds the projections for [B, T, n_embd]."""
        for layer in (self.c_attn, self.c_proj, self.resid_dropout):
            layer.build(input_shape)
        self.attn_dropout.build((None, self.config.n_head, None, None))

    def call(self, x, visible, past=None, filled=None, training=None):
        """Attends within x, or from x to a cache that x is first written into.

        Args:
            x: [B, T, n_embd].
            visible: bool [B, T, S], which tokens each token sees.
            past: (keys, values) of this layer, each [B, heads, S, head_size]; or None, and S = T.
            filled: int32 scalar, the slot of `past` that the first token of x goes to.

        Returns:
            [B, T, n_embd], and the new (keys, values).
        """
        fused = self.c_attn(x, training=training)
        query, key, value = (self.split_heads(part) for part in tf.split(fused, 3, axis=2))
        if past is not None:
            key = write_slots(past[0], key, filled)
            value = write_slots(past[1], value, filled)
        query *= tf.cast(self.config.head_size**-0.5, query.dtype)
        scores = tf.matmul(query, key, transpose_b=True)  # [B, heads, T, S]
        masked = tf.where(visible[:, tf.newaxis], tf.cast(scores, tf.float32), MASKED)
        weights = tf.nn.softmax(masked)
        weights = self.attn_dropout(tf.cast(weights, value.dtype), training=training)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])  # [B, T, heads, head_size]
        mixed = tf.reshape(mixed, tf.shape(x))
        return self.resid_dropout(self.c_proj(mixed), training=training), (key, value)

    def split_heads(self, x):
        """[B, T, n_embd] to [B, heads, T, head_size]."""
        shape = tf.shape(x)
        x = tf.reshape(x, [shape[0], shape[1], self.config.n_head, self.config.head_size])
        return tf.transpose(x, [0, 2, 1, 3])


class GPT2MLP(keras.layers.Layer):
    """Two dense layers, four times as wide between them, with the tanh form of GELU."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.c_fc = block_dense("mlp.c_fc", 4 * config.n_embd, self, lora, switch)
        self.c_proj = block_dense("mlp.c_proj", config.n_embd, self, lora, switch)
        self.dropout = keras.layers.Dropout(config.resid_pdrop, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Builds the two layers for [B, T, n_embd]."""
        self.c_fc.build(input_shape)
        self.c_proj.build((*input_shape[:-1], 4 * self.config.n_embd))
        self.dropout.build(input_shape)

    def call(self, x, training=None):
        """[B, T, n_embd] to [B, T, n_embd]."""
        x = tf.nn.gelu(self.c_fc(x, training=training), approximate=True)
        return self.dropout(self.c_proj(x, training=training), training=training)


class GPT2Block(keras.layers.Layer):
    """Attention and MLP, each on a normalised copy and added to the stream."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.ln_1 = layer_norm(config, dtype, "ln_1")
        self.attn = GPT2Attention(config, lora, switch, dtype=dtype, name="attn")
        self.ln_2 = layer_norm(config, dtype, "ln_2")
        self.mlp = GPT2MLP(config, lora, switch, dtype=dtype, name="mlp")

    def build(self, input_shape):
        """Builds all parts for [B, T, n_embd]."""
        for layer in (self.ln_1, self.attn, self.ln_2, self.mlp):
            layer.build(input_shape)

    def call(self, x, visible, past=None, filled=None, training=None):
        """[B, T, n_embd] to the same, and this layer's new (keys, values)."""
        attended, present = self.attn(
            self.ln_1(x), visible, past=past, filled=filled, training=training
        )
        x = x + attended
        return x + self.mlp(self.ln_2(x), training=training), present


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2Model(TunableModel):
    """Token ids to hidden states: embeddings, blocks, a last LayerNorm.

    Args:
        config: a GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None for a model without LoRA weights.
    """

    def __init__(
        self,
        config: GPT2Config | Mapping[str, Any],
        lora: LoRAConfig | Mapping[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(config, lora, **kwargs)
        config, dtype = self.config, self.dtype_policy
        self.switch = LoRASwitch() if self.lora else None
        self.wte = embedding(config.vocab_size, config, dtype, "wte")
        self.wpe = embedding(config.n_positions, config, dtype, "wpe")
        self.drop = keras.layers.Dropout(config.embd_pdrop, dtype=dtype, name="drop")
        self.h = [
            GPT2Block(config, self.lora, self.switch, dtype=dtype, name=f"h_{layer}")
            for layer in range(config.n_layer)
        ]
        self.ln_f = layer_norm(config, dtype, "ln_f")

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        hidden = (None, None, self.config.n_embd)
        self.wte.build((None, None))
        self.wpe.build((None, None))
        for layer in (self.drop, *self.h, self.ln_f):
            layer.build(hidden)

    def call(self, inputs, cache: Cache | None = None, training=None):
        """Hidden states [B, T, n_embd] in the compute type; with a cache, (states, new cache).

        Args:
            inputs: a dict of int32 [B, T] arrays: `token_ids`, and either `attention_mask`
                (1 = real token, 0 = padding) or `segment_ids` (0 = padding, 1.. = which example
                of a packed row; no token sees another segment).
            cache: computes the tokens as a continuation of those in the cache, which must have
                room for them.

        Raises:
            UserError: T is above n_positions.
        """
        token_ids = inputs["token_ids"]
        if (token_ids.shape[1] or 0) > self.config.n_positions:
            raise UserError(
                f"{token_ids.shape[1]} tokens are more than the model's {self.config.n_positions}"
            )
        if cache is None:
            visible, pasts, filled = visible_tokens(inputs), None, None
        else:
            filled = cache.filled
            mask = write_mask(cache.mask, inputs["attention_mask"], filled)
            visible = visible_slots(mask, filled, tf.shape(token_ids)[1])
            pasts = list(zip(cache.keys, cache.values, strict=True))
        # Fully masked rows (padding) would give -1.
        positions = tf.maximum(tf.reduce_sum(tf.cast(visible, tf.int32), axis=2) - 1, 0)
        x = self.drop(self.wte(token_ids) + self.wpe(positions), training=training)
        presents = []
        for layer, block in enumerate(self.h):
            past = pasts[layer] if pasts else None
            x, present = block(x, visible, past=past, filled=filled, training=training)
            presents.append(present)
        x = self.ln_f(x)
        if cache is None:
            return x
        keys, values = zip(*presents, strict=True)
        return x, Cache(keys, values, mask, filled + tf.shape(token_ids)[1])

    def empty_cache(self, batch_size: int, slots: int) -> Cache:
        """A cache with room for `slots` tokens a row, in the compute type."""
        shape = [batch_size, self.config.n_head, slots, self.config.head_size]
        nothing = tuple(tf.zeros(shape, self.compute_dtype) for _ in self.h)
        return Cache(nothing, nothing, tf.zeros([batch_size, slots], tf.int32), tf.constant(0))


def visible_tokens(inputs) -> tf.Tensor:
    """Which tokens each token sees: bool [B, T, T], from the mask or the segments, never from ids.

    attention_mask [[1, 1, 0]] gives [[[T, F, F], [T, T, F], [T, T, F]]].
    """
    length = tf.shape(inputs["token_ids"])[1]
    causal = tf.range(length)[:, tf.newaxis] >= tf.range(length)  # [T, T]
    segments = inputs.get("segment_ids")
    if segments is None:
        return causal & tf.cast(inputs["attention_mask"], tf.bool)[:, tf.newaxis, :]
    same = segments[:, :, tf.newaxis] == segments[:, tf.newaxis, :]
    return causal & same & (segments > 0)[:, tf.newaxis, :]


def visible_slots(mask, filled, new: tf.Tensor) -> tf.Tensor:
    """Which of the cache's slots each of `new` tokens, written from slot `filled`, sees.

    Args:
        mask: int32 [B, slots], 1 where a slot holds a real token.

    Returns:
        bool [B, new, slots].
    """
    rows = filled + tf.range(new)
    causal = rows[:, tf.newaxis] >= tf.range(tf.shape(mask)[1])
    return causal & tf.cast(mask, tf.bool)[:, tf.newaxis, :]


def write_slots(slots, new, start):
    """Puts `new` [B, heads, T, head_size] into `slots` [B, heads, S, head_size] from `start`.

    Inside a loop this writes in place, since nothing else holds the old slots there. Not so a
    concatenation, or `tf.tensor_scatter_nd_update`: those copy the whole cache for every token.
    """
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=slots,
        begin=tf.stack([0, 0, start, 0]),
        end=tf.stack([0, 0, start + tf.shape(new)[2], 0]),
        strides=[1, 1, 1, 1],
        value=new,
        begin_mask=0b1011,  # all but the third axis are taken whole
        end_mask=0b1011,
    )


def write_mask(mask, new, start):
    """Puts `new` int32 [B, T] into `mask` int32 [B, S] from slot `start`."""
    new = tf.cast(new, mask.dtype)
    written = tf.concat([mask[:, :start], new, mask[:, start + tf.shape(new)[1] :]], axis=1)
    written.set_shape(mask.shape)
    return written


def block_dense(target: str, units: int, owner: keras.layers.Layer, lora, switch) -> LoRADense:
    """One of a block's four dense layers, named by its last part, with LoRA where it is a target.

    Layers that write into the residual stream start smaller, by 1/sqrt(2 n_layer), as in the paper.
    """
    config: GPT2Config = owner.config
    name = target.rpartition(".")[2]
    spread = config.initializer_range
    if name == "c_proj":
        spread *= (2 * config.n_layer) ** -0.5
    return LoRADense(
        units,
        kernel_initializer=keras.initializers.RandomNormal(stddev=spread),
        update=lora.update_of(target) if lora else None,
        switch=switch,
        dtype=owner.dtype_policy,
        name=name,
    )


def embedding(rows: int, config: GPT2Config, dtype, name: str) -> keras.layers.Embedding:
    """A table of `rows` vectors of n_embd."""
    return keras.layers.Embedding(
        rows,
        config.n_embd,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=config.initializer_range),
        dtype=dtype,
        name=name,
    )


def layer_norm(config: GPT2Config, dtype, name: str) -> keras.layers.LayerNormalization:
    """LayerNorm over n_embd with GPT-2's epsilon; Keras computes it in float32 at least."""
    return keras.layers.LayerNormalization(
        epsilon=config.layer_norm_epsilon, dtype=dtype, name=name
    )

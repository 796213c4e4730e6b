"""GPT-2 (Radford et al. 2019) from token ids to hidden states, with Hugging Face's names.

One rule serves padded, packed and cached input alike: from the mask follows which tokens a token
sees, and its position is the number of them before it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models import kernels
from gpt2_tuning.models.attention import attention, by_token, cache_type
from gpt2_tuning.models.cache import Cache, visible_slots, write_mask, write_slots
from gpt2_tuning.models.initial import BaseNormal
from gpt2_tuning.models.lora import LoRADense, LoRASwitch
from gpt2_tuning.models.tunable import TunableModel


class DropoutSeeds(NamedTuple):
    """int32 [2] for every dropout of a block, in training; None in inference."""

    c_attn: tf.Tensor | None = None
    weights: tf.Tensor | None = None
    attn_proj: tf.Tensor | None = None
    attn_out: tf.Tensor | None = None
    c_fc: tf.Tensor | None = None
    mlp_proj: tf.Tensor | None = None
    mlp_out: tf.Tensor | None = None

    @classmethod
    def of_block(cls, seed: tf.Tensor | None, block: int) -> "DropoutSeeds":
        """Those of one block, all different, from the seed of a forward pass."""
        if seed is None:
            return cls()
        count = len(cls._fields)
        places = range(block * count, (block + 1) * count)
        return cls(*(seed + tf.constant([place, 0]) for place in places))


INFERENCE = DropoutSeeds()


class GPT2Attention(keras.layers.Layer):
    """Causal self-attention with several heads and fused query, key and value projections."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.c_attn = block_dense("attn.c_attn", 3 * config.n_embd, self, lora, switch)
        self.c_proj = block_dense("attn.c_proj", config.n_embd, self, lora, switch)

    def build(self, input_shape):
        """Builds the projections for [B, T, n_embd]."""
        self.c_attn.build(input_shape)
        self.c_proj.build(input_shape)

    def call(self, x, visible, seeds=INFERENCE, past=None, filled=None, at=None):
        """Attends within x, or from x to a cache that x is first written into.

        Args:
            x: [B, T, n_embd].
            visible: bool [B, T, S], which tokens each token sees.
            seeds: a DropoutSeeds.
            past: (keys, values) of this layer, each [B, heads, S, head_size]; or None, and S = T.
            filled: int32 scalar, the slot of `past` that the first token of x goes to.
            at: int32 [B, K], the places of x whose results are wanted; None is all of them.

        Returns:
            [B, T, n_embd], or [B, K, n_embd] with `at`, and the new (keys, values).
        """
        parts = tf.split(self.c_attn(x, seed=seeds.c_attn), 3, axis=2)
        if at is not None:
            parts[0], visible = gathered(parts[0], at), gathered(visible, at)
        query, key, value = map(self.split_heads, parts)
        if past is not None:
            key = write_slots(past[0], key, filled)
            value = write_slots(past[1], value, filled)
        # With `at`, little work in as many shapes: compiling would cost more than it brings.
        compiled = seeds.weights is not None and at is None
        rate = self.config.attn_pdrop
        mixed = attention(query, key, value, visible, seeds.weights, rate=rate, compiled=compiled)
        mixed = tf.reshape(mixed, [*kernels.leading_sizes(parts[0]), self.config.n_embd])
        return self.c_proj(mixed, seed=seeds.attn_proj), (key, value)

    def split_heads(self, x):
        """[B, T, n_embd] to [B, heads, T, head_size]."""
        heads = [self.config.n_head, self.config.head_size]
        return by_token(tf.reshape(x, [*kernels.leading_sizes(x), *heads]))


class GPT2MLP(keras.layers.Layer):
    """Two dense layers, four times as wide between them, with the tanh form of GELU."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.c_fc = block_dense("mlp.c_fc", 4 * config.n_embd, self, lora, switch)
        self.c_proj = block_dense("mlp.c_proj", config.n_embd, self, lora, switch)

    def build(self, input_shape):
        """Builds the two layers for [B, T, n_embd]."""
        self.c_fc.build(input_shape)
        self.c_proj.build((*input_shape[:-1], 4 * self.config.n_embd))

    def call(self, x, seeds=INFERENCE):
        """[B, T, n_embd] to [B, T, n_embd]; `seeds` is a DropoutSeeds."""
        x = self.c_fc(x, seed=seeds.c_fc)
        x = kernels.gelu(x, compiled=seeds.c_fc is not None)
        return self.c_proj(x, seed=seeds.mlp_proj)


class GPT2Block(keras.layers.Layer):
    """Attention and MLP, each on a normalised copy and added to the stream."""

    def __init__(self, config: GPT2Config, lora=None, switch: LoRASwitch | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        dtype = self.dtype_policy
        self.rate = config.resid_pdrop
        self.ln_1 = LayerNorm(config.layer_norm_epsilon, dtype=dtype, name="ln_1")
        self.attn = GPT2Attention(config, lora, switch, dtype=dtype, name="attn")
        self.ln_2 = LayerNorm(config.layer_norm_epsilon, dtype=dtype, name="ln_2")
        self.mlp = GPT2MLP(config, lora, switch, dtype=dtype, name="mlp")

    def build(self, input_shape):
        """Builds all parts for [B, T, n_embd]."""
        for layer in (self.ln_1, self.attn, self.ln_2, self.mlp):
            layer.build(input_shape)

    def compute_output_shape(self, input_shape):
        """Of the hidden states, for `summary`: the input's."""
        return input_shape

    def call(self, x, visible, seeds=INFERENCE, past=None, filled=None, at=None):
        """[B, T, n_embd] to the same, and this layer's new (keys, values); see GPT2Attention.

        With `at`, int32 [B, K], it gives and computes those places of x alone: [B, K, n_embd].
        """
        training = seeds.attn_out is not None
        normal = self.ln_1(x, compiled=training)
        update, present = self.attn(normal, visible, seeds, past=past, filled=filled, at=at)
        if at is not None:
            x = gathered(x, at)
        x += kernels.dropout(update, seeds.attn_out, rate=self.rate, compiled=training)
        update = self.mlp(self.ln_2(x, compiled=training), seeds)
        x += kernels.dropout(update, seeds.mlp_out, rate=self.rate, compiled=training)
        return x, present


class LayerNorm(keras.layers.Layer):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it.

    Keras's own layer under its weights' names; its weights stay in float32 whatever the policy.
    """

    def __init__(self, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Adds `gamma` and `beta` for inputs of `input_shape[-1]` channels."""
        shape, exact = (input_shape[-1],), {"dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", **exact)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", **exact)

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape

    def call(self, x, compiled=False):
        """[..., C] to the same; `compiled` as in training."""
        return kernels.layer_norm(x, self.gamma, self.beta, epsilon=self.epsilon, compiled=compiled)


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2Model(TunableModel):
    """Token ids to hidden states: embeddings, blocks, a last LayerNorm.

    With `rematerialize` set to True, training keeps the input of each block alone and computes the
    block again for its gradient (Chen et al. 2016, https://arxiv.org/abs/1604.06174).

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
        self.rematerialize = False
        self.switch = LoRASwitch() if self.lora else None
        self.wte = embedding(config.vocab_size, config, dtype, "wte")
        self.wpe = embedding(config.n_positions, config, dtype, "wpe")
        self.seeds = keras.random.SeedGenerator()
        self.h = [
            GPT2Block(config, self.lora, self.switch, dtype=dtype, name=f"h_{layer}")
            for layer in range(config.n_layer)
        ]
        self.ln_f = LayerNorm(config.layer_norm_epsilon, dtype=dtype, name="ln_f")

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        hidden = (None, None, self.config.n_embd)
        self.wte.build((None, None))
        self.wpe.build((None, None))
        for block in self.h:
            block.build(hidden)
        self.ln_f.build(hidden)

    def compute_output_shape(self, input_shape):
        """[B, T] of the token ids, or a dict that has it, to [B, T, n_embd]."""
        rows = input_shape["token_ids"] if isinstance(input_shape, Mapping) else input_shape
        return (*rows, self.config.n_embd)

    def call(self, inputs, cache: Cache | None = None, training=None, at=None):
        """Hidden states [B, T, n_embd] in the compute type; with a cache, (states, new cache).

        Args:
            inputs: a dict of int32 [B, T] arrays: `token_ids`, and either `attention_mask`
                (1 = real token, 0 = padding) or `segment_ids` (0 = padding, 1.. = which example
                of a packed row; no token sees another segment).
            cache: computes the tokens as a continuation of those in the cache, which must have
                room for them.
            training: whether dropout is on.
            at: int32 [B, K], the places whose hidden states are wanted, which are then [B, K,
                n_embd]: the last block computes no others. None is all of them.

        Raises:
            UserError: T is above n_positions. Packed rows may be longer: positions restart in each
                segment.
        """
        token_ids = inputs["token_ids"]
        if "segment_ids" not in inputs and (token_ids.shape[1] or 0) > self.config.n_positions:
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
        seed = tf.cast(self.seeds.next(), tf.int32) if training else None
        x = self.wte(token_ids) + self.wpe(positions)
        x = kernels.dropout(x, seed, rate=self.config.embd_pdrop, compiled=bool(training))
        presents = []
        for layer, block in enumerate(self.h):
            # The embeddings' dropout has the seed itself, so blocks begin with the next.
            seeds = DropoutSeeds.of_block(seed, layer + 1)
            wanted = at if block is self.h[-1] else None
            if training and self.rematerialize:
                x = computed_again(block, visible, seeds, wanted)(x)
                continue
            past = pasts[layer] if pasts else None
            x, present = block(x, visible, seeds, past=past, filled=filled, at=wanted)
            presents.append(present)
        x = self.ln_f(x, compiled=bool(training))
        if cache is None:
            return x
        keys, values = zip(*presents, strict=True)
        return x, Cache(keys, values, mask, filled + tf.shape(token_ids)[1])

    def empty_cache(self, batch_size: int, slots: int) -> Cache:
        """A cache with room for `slots` tokens a row."""
        shape = [batch_size, self.config.n_head, slots, self.config.head_size]
        dtype = cache_type(tf.as_dtype(self.compute_dtype))
        nothing = tuple(tf.zeros(shape, dtype) for _ in self.h)
        return Cache(nothing, nothing, tf.zeros([batch_size, slots], tf.int32), tf.constant(0))


def computed_again(block: GPT2Block, visible, seeds: DropoutSeeds, at=None):
    """The block as a function of its input that keeps nothing else for its gradient.

    The seeds are given from outside, so the second pass drops what the first did.
    """
    return tf.recompute_grad(lambda x: block(x, visible, seeds, at=at)[0])


def gathered(x, at):
    """The places `at`, int32 [B, K], of x, [B, T, C]: [B, K, C]."""
    return tf.gather(x, at, axis=1, batch_dims=1)


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
        kernel_initializer=BaseNormal(stddev=spread),
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
        embeddings_initializer=BaseNormal(stddev=config.initializer_range),
        dtype=dtype,
        name=name,
    )

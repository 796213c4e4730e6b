"""The compiled half of generation: a batch of prompts in, then tokens, some at a time.

One function reads the prompts, another is a loop that adds a token a turn to every row. The first
is traced once for a model, the second once for a model and a sampler, whatever the prompts' number
and length, the switch of LoRA and the values of the weights.
"""

import functools
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.families.gpt2 import END_OF_TEXT, TOKENIZER_IDS
from gpt2_tuning.inference.sampling import Sampler
from gpt2_tuning.models.attention import cache_type
from gpt2_tuning.models.cache import Cache
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.lora import project
from gpt2_tuning.models.products import product_type

STEPS = 2**20
"""More than any row has: row x STEPS + step is another number for every token of a call."""


class Weights(NamedTuple):
    """What one call of generation computes from the model's weights once, not at every step."""

    head: tf.Tensor  # [n_embd, V], the token embedding, transposed, as products take it
    matrices: tuple[tf.Tensor, ...]  # `matrices` in the compute type; none where that is theirs


class State(NamedTuple):
    """Where decoding stands between two calls of the loop."""

    cache: Cache
    tokens: tf.Tensor  # int32 [B], each row's newest token, not yet in the cache
    finished: tf.Tensor  # bool [B], rows that need no further token
    step: tf.Tensor  # int32 scalar: how many tokens were chosen so far
    seed: tf.Tensor  # int64 scalar
    rows: tf.Tensor  # int64 [B], each row's number among all prompts


class Decoder:
    """The compiled functions of one model; get it from `decoder_of`."""

    def __init__(self, model: LanguageModel):
        self.traces = 0
        # Not the model itself: decoders are kept for as long as their model is alive.
        self._reference = weakref.ref(model)
        self._weights, inputs, self._state = signatures(model)
        self._prepare = tf.function(self._prepare_weights, autograph=False)
        self._read = tf.function(self._read_prompts, [self._weights, inputs], autograph=False)
        self._loops: dict[Sampler, tf.function] = {}

    @property
    def _model(self) -> LanguageModel:
        model = self._reference()
        assert model is not None
        return model

    def weights(self) -> Weights:
        """The model's weights of this moment, made ready."""
        return self._prepare()

    def start(
        self,
        weights: Weights,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        sampler: Sampler,
        seed: int,
    ) -> State:
        """Reads a batch of prompts and chooses the first new token of each.

        Args:
            weights: from `weights()`.
            prompts: token ids; none is empty.
            rows: each prompt's number, from which together with the seed its randomness comes.
            sampler: how to choose.
            seed: any integer of 64 bits.
        """
        length = max(map(len, prompts))
        ids = np.zeros((len(prompts), length), np.int32)
        mask = np.zeros((len(prompts), length), np.int32)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        inputs = {"token_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}
        logits, cache = self._read(weights, inputs)
        state = State(
            cache=cache,
            tokens=tf.zeros([len(prompts)], tf.int32),
            finished=tf.zeros([len(prompts)], tf.bool),
            step=tf.constant(0),
            seed=tf.constant(seed, tf.int64),
            rows=tf.constant(rows, tf.int64),
        )
        return choose(sampler, logits, state)

    def extend(
        self, weights: Weights, state: State, sampler: Sampler, count: int
    ) -> tuple[np.ndarray, State]:
        """Adds up to `count` tokens to every row that is not finished.

        Returns:
            The new tokens, int32 [B, n], where n is below count only if all rows finished, and
            the state after them. Finished rows repeat their last token.
        """
        if sampler not in self._loops:
            signature = [self._weights, self._state, tf.TensorSpec([], tf.int32)]
            add_tokens = functools.partial(self._add_tokens, sampler)
            self._loops[sampler] = tf.function(add_tokens, signature, autograph=False)
        tokens, state = self._loops[sampler](weights, state, tf.constant(count))
        return tokens.numpy(), state

    def _prepare_weights(self) -> Weights:
        model = self._model
        dtype = model.compute_dtype
        table = model.transformer.tokens.embeddings.value[: vocabulary(model)]
        head = tf.transpose(tf.cast(table, dtype))
        head = tf.cast(head, product_type(dtype))
        if dtype == model.variable_dtype:
            return Weights(head, ())
        return Weights(head, tuple(tf.cast(matrix.value, dtype) for matrix in matrices(model)))

    def _read_prompts(self, weights: Weights, inputs) -> tuple[tf.Tensor, Cache]:
        self.traces += 1
        batch, length = tf.unstack(tf.shape(inputs["token_ids"]))
        cache = self._model.transformer.empty_cache(batch, length)
        return self._logits(weights, inputs, cache)

    def _add_tokens(self, sampler: Sampler, weights: Weights, state: State, count):
        self.traces += 1
        first = state.step
        state = state._replace(cache=state.cache.grown(count))
        chosen = tf.TensorArray(tf.int32, size=count, element_shape=state.tokens.shape)

        def turn(state: State, chosen):
            inputs = {
                "token_ids": state.tokens[:, tf.newaxis],
                "attention_mask": tf.ones_like(state.tokens)[:, tf.newaxis],
            }
            logits, cache = self._logits(weights, inputs, state.cache)
            state = choose(sampler, logits, state._replace(cache=cache))
            return state, chosen.write(state.step - 1 - first, state.tokens)

        state, chosen = tf.while_loop(
            lambda state, chosen: ~tf.reduce_all(state.finished),
            turn,
            (state, chosen),
            maximum_iterations=count,
        )
        return tf.transpose(chosen.stack()[: state.step - first]), state

    def _logits(self, weights: Weights, inputs, cache: Cache) -> tuple[tf.Tensor, Cache]:
        """Float32 [B, V] for the last position, and the new cache."""
        model = self._model
        with keras.StatelessScope() as scope:
            if weights.matrices:
                for variable, value in zip(matrices(model), weights.matrices, strict=True):
                    scope.add_update((variable, value))
            hidden, cache = model.extend(inputs, cache)
        return tf.cast(project(hidden[:, -1], weights.head), tf.float32), cache


def choose(sampler: Sampler, logits, state: State) -> State:
    """The state with the next token of every row, from logits float32 [B, V]."""
    numbers = state.rows * STEPS + tf.cast(state.step, tf.int64)
    seeds = tf.stack([tf.fill(tf.shape(numbers), state.seed), numbers], axis=1)
    tokens = tf.where(state.finished, state.tokens, sampler.choose(logits, seeds))
    return state._replace(
        tokens=tokens,
        finished=state.finished | (tokens == END_OF_TEXT),
        step=state.step + 1,
    )


def signatures(model: LanguageModel) -> tuple[Weights, dict[str, tf.TensorSpec], State]:
    """What the compiled functions take: weights, inputs and state of any batch and any length."""
    config, dtype = model.config.decoder, tf.as_dtype(model.compute_dtype)
    spec = tf.TensorSpec
    shapes = [] if dtype == model.variable_dtype else [m.shape for m in matrices(model)]
    weights = Weights(
        spec([config.width, vocabulary(model)], product_type(dtype)),
        tuple(spec(shape, dtype) for shape in shapes),
    )
    ids = spec([None, None], tf.int32)
    slot_shape, slot_type = [None, config.kv_heads, None, config.head_size], cache_type(dtype)
    slots = (spec(slot_shape, slot_type),) * config.layers
    state = State(
        cache=Cache(slots, slots, ids, spec([], tf.int32)),
        tokens=spec([None], tf.int32),
        finished=spec([None], tf.bool),
        step=spec([], tf.int32),
        seed=spec([], tf.int64),
        rows=spec([None], tf.int64),
    )
    return weights, {"token_ids": ids, "attention_mask": ids}, state


def vocabulary(model: LanguageModel) -> int:
    """How many ids may be chosen, V: the model's, but for those that the tokenizer has not."""
    return min(model.config.decoder.vocabulary, TOKENIZER_IDS)


def matrices(model: LanguageModel) -> list[keras.Variable]:
    """The model's weights of two dimensions: all but the few that are small."""
    return [variable for variable in model.weights if len(variable.shape) == 2]


_DECODERS: weakref.WeakKeyDictionary[LanguageModel, dict[bool, Decoder]]
_DECODERS = weakref.WeakKeyDictionary()


def decoder_of(model: LanguageModel) -> Decoder:
    """The model's decoder, made at the first use and kept as long as the model.

    A model has one for itself and one for when its updates are merged, which computes none.
    """
    decoders = _DECODERS.setdefault(model, {})
    merged = bool(model.kept_kernels)
    if merged not in decoders:
        decoders[merged] = Decoder(model.built_now())
    return decoders[merged]

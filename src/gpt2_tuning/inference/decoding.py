"""The traced half of generation: a batch of prompts in, then tokens, some at a time.

It works in tokens and knows no text. One function reads the prompts, another is a loop that adds a
token a turn to every row. Each is traced once for a model, whatever the prompts' number and length,
the ways in which they are continued, the gate of LoRA and the values of the weights; only a
sampler of one's own has a loop of its own. Where XLA compiles loops: compiled_decoding.py.
"""

import contextlib
import functools
import weakref
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues, next_tokens
from gpt2_tuning.inference.decoding_state import (
    State,
    Weights,
    begun_state,
    grown,
    inputs_of,
    left_padded,
    matrices,
    signatures,
)
from gpt2_tuning.inference.penalties import NO_TOKEN, penalised
from gpt2_tuning.inference.sampling import Sampler
from gpt2_tuning.models.cache import Cache
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.products import product_type, project

STEPS = 2**20
"""More than any row has: row x STEPS + step is another number for every token of a call."""


class Decoder:
    """The traced functions of one model; get it from `decoder_of`."""

    def __init__(
        self, model: LanguageModel, vocabulary: int, ends: Sequence[int], by_row: bool = False
    ):
        self.traces = 0
        # Not the model itself: decoders are kept for as long as their model is alive.
        self._reference = weakref.ref(model)
        self._vocabulary, self._ends = vocabulary, ends
        self._weights, inputs, self._state = signatures(model, vocabulary, by_row)
        self._prepare = tf.function(self._prepare_weights, autograph=False)
        signature = [self._weights, inputs, self._state.gate]
        self._read = tf.function(self._read_prompts, signature, autograph=False)
        self._loops: dict[Sampler | None, tf.function] = {}

    @property
    def _model(self) -> LanguageModel:
        model = self._reference()
        assert model is not None
        return model

    def weights(self) -> Weights:
        """The model's weights of this moment, made ready."""
        return self._prepare()

    def rows_for(self, count: int) -> int:
        """How many rows a batch of `count` had best have, the others being copies."""
        return count

    def start(
        self,
        weights: Weights,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        values: RowValues,
        sampler: Sampler | None = None,
        gate: np.ndarray | None = None,
        multiple: int = 1,
    ) -> State:
        """Reads a batch of prompts and chooses the first new token of each.

        Args:
            weights: from `weights()`.
            prompts: token ids; none is empty.
            rows: each prompt's number, from which together with its seed its randomness comes.
            values: how each is continued.
            sampler: chooses in place of the values' way.
            gate: each row's adapters, as `rows_gate` gives them; for a decoder `by_row`.
            multiple: of what the rows' length is one, padding included.
        """
        length = -(-max(map(len, prompts)) // multiple) * multiple
        history = tf.constant(left_padded(prompts, length))
        row_gate = () if gate is None else (tf.constant(gate),)
        logits, cache = self._read(weights, inputs_of(history), row_gate)
        state = begun_state(history, tf.constant(rows, tf.int64), cache, values, row_gate)
        return self._choose(sampler, logits, state)

    def continued(self, history: tf.Tensor, values: RowValues, count: int) -> tf.Tensor:
        """Up to `count` new tokens of every prompt, to be traced into a graph of the caller's own.

        Args:
            history: int32 [B, S], the prompts, with NO_TOKEN before those that are shorter.
            values: how each is continued.
            count: at least 1.

        Returns:
            int32 [B, n], where n is below count only if all rows finished. Finished rows repeat
            their last token.
        """
        weights = self._prepare_weights()
        logits, cache = self._read_prompts(weights, inputs_of(history), ())
        rows = tf.range(tf.shape(history)[0])
        state = begun_state(history, tf.cast(rows, tf.int64), cache, values, ())
        state = self._choose(None, logits, state)
        first = state.tokens[:, tf.newaxis]

        def more():
            tokens, _ = self._add_tokens(None, weights, state, tf.constant(count - 1))
            return tf.concat([first, tokens], axis=1)

        return tf.cond(tf.reduce_all(state.finished), lambda: first, more)

    def extend(
        self, weights: Weights, state: State, count: int, sampler: Sampler | None = None
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
        table = model.head_table.value[: self._vocabulary]
        head = tf.transpose(tf.cast(table, dtype))
        head = tf.cast(head, product_type(dtype))
        if dtype == model.variable_dtype:
            return Weights(head, ())
        return Weights(head, tuple(tf.cast(matrix.value, dtype) for matrix in matrices(model)))

    def _read_prompts(self, weights: Weights, inputs, gate) -> tuple[tf.Tensor, Cache]:
        self.traces += 1
        batch, length = tf.unstack(tf.shape(inputs["token_ids"]))
        cache = self._model.empty_cache(batch, length)
        return self._logits(weights, inputs, cache, gate)

    def _add_tokens(self, sampler: Sampler | None, weights: Weights, state: State, count):
        self.traces += 1
        state = grown(state, count)
        turns, chosen, state = self._loop(sampler, weights, state, count, count)
        return tf.transpose(chosen[:turns]), state

    def _loop(self, sampler, weights: Weights, state: State, count, size, compiled: bool = False):
        """The loop, over a cache that has room.

        Args:
            sampler: chooses in place of the rows' way.
            weights: from `weights()`.
            state: where it begins.
            count: int32 scalar, the most turns.
            size: as many tokens a row it has place for.
            compiled: whether XLA compiles it.

        Returns:
            The number of turns, int32; tokens, int32 [size, B], which mean nothing after those of
            the last turn; the state.
        """
        chosen = tf.TensorArray(tf.int32, size=size, element_shape=state.tokens.shape)

        def turn(turns, state: State, chosen):
            state = self._choose(sampler, *self._step(weights, state), compiled)
            return turns + 1, state, chosen.write(turns, state.tokens)

        turns, state, chosen = tf.while_loop(
            lambda turns, state, chosen: ~tf.reduce_all(state.finished),
            turn,
            (tf.constant(0), state, chosen),
            maximum_iterations=count,
        )
        return turns, chosen.stack(), state

    def _step(self, weights: Weights, state: State) -> tuple[tf.Tensor, State]:
        """Float32 [B, V] for what follows the rows' newest tokens, and the state with these read.

        A finished row's token counts as padding: so its positions stay below the model's end.
        """
        real = ~state.finished
        inputs = {
            "token_ids": state.tokens[:, tf.newaxis],
            "attention_mask": tf.cast(real, tf.int32)[:, tf.newaxis],
        }
        here = tf.range(tf.shape(state.history)[1]) == state.cache.filled
        tokens = tf.where(real, state.tokens, NO_TOKEN)[:, tf.newaxis]
        history = tf.where(here, tokens, state.history)
        logits, cache = self._logits(weights, inputs, state.cache, state.gate)
        return logits, state._replace(cache=cache, history=history)

    def _choose(
        self, sampler: Sampler | None, logits, state: State, compiled: bool = False
    ) -> State:
        """The state with the next token of every row, from logits float32 [B, V]."""
        values = state.values
        filled = state.cache.filled
        logits = penalised(logits, state.history, filled, state.prompted, values)
        numbers = state.rows * STEPS + tf.cast(state.made, tf.int64)
        seeds = tf.stack([values.seed, numbers], axis=1)
        if sampler is None:
            tokens = next_tokens(logits, seeds, values, compiled)
        else:
            tokens = sampler.choose(logits, seeds)
        tokens = tf.where(state.finished, state.tokens, tokens)
        made = state.made + tf.cast(~state.finished, tf.int32)
        ended = tf.reduce_any(tokens[:, tf.newaxis] == tf.constant(self._ends), axis=1)
        return state._replace(
            tokens=tokens,
            finished=state.finished | ended | (made >= values.max_new_tokens),
            made=made,
        )

    def _logits(
        self, weights: Weights, inputs, cache: Cache, gate, at: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Cache]:
        """Float32 [B, V] for the place `at`, which is the last if it is None, and the new cache."""
        model = self._model
        # Where nothing is replaced, what a scope around this one replaces counts.
        scope = keras.StatelessScope()
        with scope if weights.matrices else contextlib.nullcontext():
            for variable, value in zip(matrices(model), weights.matrices, strict=False):
                scope.add_update((variable, value))
            hidden, cache = model.extend(inputs, cache, *gate)
        # A slice that is not known when XLA compiles would be known, by compiling for each.
        hidden = hidden[:, -1] if at is None else tf.gather(hidden, at, axis=1)
        return tf.cast(project(hidden, weights.head), tf.float32), cache

"""What decoding's compiled functions take and give: weights made ready, and where rows stand."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.penalties import NO_TOKEN
from gpt2_tuning.models.attention import cache_type
from gpt2_tuning.models.cache import Cache
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.products import product_type


class Weights(NamedTuple):
    """What one call of generation computes from the model's weights once, not at every step."""

    head: tf.Tensor  # [width, V], the head's table, transposed, as products take it
    matrices: tuple[tf.Tensor, ...]  # `matrices` in the compute type; none where that is theirs


class State(NamedTuple):
    """Where decoding stands between two calls of the loop."""

    cache: Cache
    # Kept whether a row has penalties or not, so that none decides on the shapes: it is 4 bytes a
    # slot, where the cache has two vectors a layer.
    history: tf.Tensor  # int32 [B, slots], the cache's tokens, NO_TOKEN where its mask is 0
    prompted: tf.Tensor  # int32 [B], the slots up to the end of the row's prompt
    tokens: tf.Tensor  # int32 [B], each row's newest token, not yet in the cache
    finished: tf.Tensor  # bool [B], rows that need no further token
    made: tf.Tensor  # int32 [B]: how many tokens the row was given so far
    rows: tf.Tensor  # int64 [B], each row's number among all prompts
    values: RowValues  # how each row is continued
    gate: tuple[tf.Tensor, ...]  # as `rows_gate`, where rows have adapters of their own


def inputs_of(history: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a model reads of prompts, int32 [B, S], with NO_TOKEN before those that are shorter."""
    mask = history != NO_TOKEN
    return {"token_ids": tf.where(mask, history, 0), "attention_mask": tf.cast(mask, tf.int32)}


def left_padded(prompts: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Prompts as a history, int32 [B, length], with NO_TOKEN before those that are shorter."""
    history = np.full((len(prompts), length), NO_TOKEN, np.int32)
    for row, prompt in enumerate(prompts):
        history[row, length - len(prompt) :] = prompt
    return history


def begun_state(history, rows, cache: Cache, values: RowValues, gate: tuple) -> State:
    """Where decoding stands once prompts are read, before the first new token is chosen.

    Args:
        history: int32 [B, S], the prompts, as `inputs_of` takes them.
        rows: int64 [B], their numbers.
        cache: with the prompts in it, which end before the slot `filled`.
        values: of the rows.
        gate: as State's.
    """
    none = tf.zeros_like(history[:, 0])
    return State(
        cache=cache,
        history=history,
        prompted=tf.fill(tf.shape(none), cache.filled),
        tokens=none,
        finished=tf.zeros_like(none, tf.bool),
        made=none,
        rows=rows,
        values=values,
        gate=gate,
    )


def grown(state: State, extra) -> State:
    """The state with room for `extra` more tokens a row, behind what is there."""
    history = tf.pad(state.history, [[0, 0], [0, extra]], constant_values=NO_TOKEN)
    return state._replace(cache=state.cache.grown(extra), history=history)


def signatures(
    model: LanguageModel, vocabulary: int, by_row: bool
) -> tuple[Weights, dict[str, tf.TensorSpec], State]:
    """What the compiled functions take: weights, inputs and state of any batch and any length."""
    config, dtype = model.config.decoder, tf.as_dtype(model.compute_dtype)
    spec = tf.TensorSpec
    shapes = [] if dtype == model.variable_dtype else [m.shape for m in matrices(model)]
    weights = Weights(
        spec([config.width, vocabulary], product_type(dtype)),
        tuple(spec(shape, dtype) for shape in shapes),
    )
    ids = spec([None, None], tf.int32)
    slot_shape, slot_type = [None, config.kv_heads, None, config.head_size], cache_type(dtype)
    slots = (spec(slot_shape, slot_type),) * config.layers
    state = State(
        cache=Cache(slots, slots, ids, spec([], tf.int32)),
        history=ids,
        prompted=spec([None], tf.int32),
        tokens=spec([None], tf.int32),
        finished=spec([None], tf.bool),
        made=spec([None], tf.int32),
        rows=spec([None], tf.int64),
        values=RowValues(*(spec([None], value.dtype) for value in RowValues.of([]))),
        gate=(model.rows_gate_spec(),) if by_row else (),
    )
    return weights, {"token_ids": ids, "attention_mask": ids}, state


def matrices(model: LanguageModel) -> list[keras.Variable]:
    """The model's weights of two dimensions: all but the few that are small, and a head's table."""
    apart = id(model.lm_head.embeddings) if model.lm_head else None
    return [w for w in model.weights if len(w.shape) == 2 and id(w) != apart]

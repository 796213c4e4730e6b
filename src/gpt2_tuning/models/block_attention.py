"""Attention whose scores exist block by block, with a running softmax; so its gradient.

No array has a place for every pair of a row's tokens. Sources: Rabe & Staats 2021,
https://arxiv.org/abs/2112.05682, and Dao et al. 2022, https://arxiv.org/abs/2205.14135.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.models.kernels import Part, dropped
from gpt2_tuning.models.seen import Seen

MASKED = -1e9
"""The float32 score of a token that must not be seen: its weight comes out as exactly 0."""
LEAST = 1e-30
"""Below all sums of powers, of which the largest is 1; what divides where there is none."""


class Blocks(NamedTuple):
    """How a row's tokens are cut into blocks."""

    queries: int
    """Tokens of a block that see."""
    keys: int
    """Tokens of a block that are seen."""
    rows: int
    """Blocks of tokens that see."""
    columns: int
    """Blocks of tokens that are seen."""
    causal: bool
    """Whether the tokens that see are those that are seen, so that no block sees a later one."""

    @classmethod
    def of(cls, queries: int, keys: int, most: int, causal: bool) -> "Blocks":
        """Blocks of at most `most` tokens, all of one size."""
        rows, columns = math.ceil(queries / most), math.ceil(keys / most)
        return cls(math.ceil(queries / rows), math.ceil(keys / columns), rows, columns, causal)

    @property
    def pairs(self) -> int:
        """Blocks of scores that are computed."""
        return self.rows * (self.rows + 1) // 2 if self.causal else self.rows * self.columns

    def after(self, row, column):
        """The pair of blocks after one, row by row."""
        last = row if self.causal else tf.constant(self.columns - 1)
        end = column == last
        return tf.where(end, row + 1, row), tf.where(end, 0, column + 1)


class Attended(NamedTuple):
    """What all blocks have in common."""

    seen: Seen
    seed: tf.Tensor | None
    rate: float
    group: int
    blocks: Blocks
    whole: tf.Tensor  # int32 [4]: B, heads, T x group, S

    def mask(self, row, column):
        """Which of a block's scores count: bool [B, 1, rows x group, columns]."""
        queries = self.seen.queries.part(row * self.blocks.queries, self.blocks.queries)
        keys = self.seen.keys.part(column * self.blocks.keys, self.blocks.keys)
        mask = dataclasses.replace(self.seen, queries=queries, keys=keys).mask()
        return (tf.repeat(mask, self.group, axis=1) if self.group > 1 else mask)[:, tf.newaxis]

    def dropped(self, x, row, column):
        """A block of weights after dropout, which is that of its place among all of them."""
        size = self.blocks.queries * self.group
        first = tf.stack([0, 0, row * size, column * self.blocks.keys])
        return dropped(x, self.seed, self.rate, Part(first, self.whole))


def attend_in_blocks(
    query, key, value, seen: Seen, seed, *, scale: float, rate: float, most: int, group: int = 1
):
    """As `attention.attend`; tokens that see nothing get 0.

    Args:
        query, key, value, seed, scale, rate, group: as there; T and S are known.
        seen: who sees whom.
        most: tokens of a block.
    """
    queries, keys = query.shape[2] // group, key.shape[2]
    blocks = Blocks.of(queries, keys, most, causal=seen.in_order)
    more = blocks.rows * blocks.queries - queries, blocks.columns * blocks.keys - keys
    whole = tf.stack([*tf.unstack(tf.shape(query)[:3]), keys])
    padded_seen = dataclasses.replace(
        seen, queries=seen.queries.padded(more[0]), keys=seen.keys.padded(more[1])
    )
    attended = Attended(padded_seen, seed, rate, group, blocks, whole)

    @tf.custom_gradient
    def call(query, key, value):
        scaled = tf.cast(query * tf.cast(scale, query.dtype), key.dtype)
        cut = (
            in_blocks(scaled, blocks.rows, more[0] * group),
            in_blocks(key, blocks.columns, more[1]),
            in_blocks(value, blocks.columns, more[1]),
        )
        mixed, sums = forward(attended, *cut)
        result = tf.cast(together(mixed, query), query.dtype)

        def backward(upstream):
            above = in_blocks(upstream, blocks.rows, more[0] * group)
            along = tf.reduce_sum(tf.cast(above, tf.float32) * mixed, axis=-1, keepdims=True)
            to_query, to_key, to_value = gradients(attended, *cut, above, along, sums)
            return (
                tf.cast(together(to_query, query) * scale, query.dtype),
                tf.cast(together(to_key, key), key.dtype),
                tf.cast(together(to_value, value), value.dtype),
            )

        return result, backward

    return call(query, key, value)


def in_blocks(x, count: int, more: int):
    """[B, heads, T, n], with `more` empty rows behind, as [count, B, heads, rows, n]."""
    x = tf.pad(x, [[0, 0], [0, 0], [0, more], [0, 0]]) if more else x
    return tf.stack(tf.split(x, count, axis=2))


def together(blocks, like):
    """[count, B, heads, rows, n] as [B, heads, T, n], T as `like` has it."""
    return tf.concat(tf.unstack(blocks), axis=2)[:, :, : like.shape[2]]


def forward(attended: Attended, query, key, value):
    """What each query sees, mixed, and the logarithms of its powers' sums.

    Args:
        attended: what all blocks have in common.
        query: [rows, B, heads, size x group, head_size], scaled.
        key: [columns, B, heads, size, head_size].
        value: as `key`.

    Returns:
        float32 as `query`, and the same with a last axis of 1.
    """
    first = tf.zeros_like(query[0], tf.float32)
    column = first[..., :1]

    def body(row, column, mixed, largest, total, results, sums):
        fresh = column == 0
        mixed, total = tf.where(fresh, 0.0, mixed), tf.where(fresh, 0.0, total)
        largest = tf.where(fresh, MASKED, largest)
        scores = product(query[row], key[column], transpose_b=True)
        mask = attended.mask(row, column)
        highest = tf.reduce_max(tf.where(mask, scores, MASKED), axis=-1, keepdims=True)
        before, largest = largest, tf.maximum(largest, highest)
        powers, shrunk = tf.where(mask, tf.exp(scores - largest), 0.0), tf.exp(before - largest)
        total = shrunk * total + tf.reduce_sum(powers, axis=-1, keepdims=True)
        weights = tf.cast(attended.dropped(powers, row, column), value.dtype)
        mixed = shrunk * mixed + product(weights, value[column])
        some = tf.maximum(total, LEAST)
        # What a row's last block writes stays.
        results = results.write(row, mixed / some)
        return mixed, largest, total, results, sums.write(row, largest + tf.math.log(some))

    arrays = array_of(query.shape[0], first), array_of(query.shape[0], column)
    *_, results, sums = over_pairs(attended.blocks, body, (first, column, column, *arrays))
    return results.stack(), sums.stack()


def gradients(attended: Attended, query, key, value, above, along, sums):
    """The gradients of `forward`'s first result, float32 as `query`, `key` and `value`.

    Args:
        attended, query, key, value: as there.
        above: the result's gradient, of the type of `value`.
        along: float32 [rows, B, heads, size x group, 1], the sums of the result times it.
        sums: from `forward`.
    """
    to_query = tf.zeros_like(query[0], tf.float32)
    to_key = tf.zeros_like(key[0], tf.float32)

    def body(row, column, to_query, to_queries, to_keys, to_values):
        scores = product(query[row], key[column], transpose_b=True)
        weights = tf.where(attended.mask(row, column), tf.exp(scores - sums[row]), 0.0)
        towards = product(above[row], value[column], transpose_b=True)
        towards = attended.dropped(towards, row, column)
        to_scores = tf.cast(weights * (towards - along[row]), key.dtype)
        weights = tf.cast(attended.dropped(weights, row, column), value.dtype)
        to_query = tf.where(column == 0, 0.0, to_query) + product(to_scores, key[column])
        of_keys = product(to_scores, query[row], transpose_a=True)
        of_values = product(weights, above[row], transpose_a=True)
        return (
            to_query,
            to_queries.write(row, to_query),
            to_keys.write(column, to_keys.read(column) + of_keys),
            to_values.write(column, to_values.read(column) + of_values),
        )

    arrays = (
        array_of(query.shape[0], to_query),
        array_of(key.shape[0], to_key),
        array_of(key.shape[0], to_key),
    )
    _, *found = over_pairs(attended.blocks, body, (to_query, *arrays))
    return [array.stack() for array in found]


def product(a, b, transpose_a=False, transpose_b=False):
    """a b, or with one of them transposed, as float32."""
    return tf.cast(tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b), tf.float32)


def array_of(count: int, zeros) -> tf.TensorArray:
    """`count` arrays of zeros."""
    array = tf.TensorArray(tf.float32, count, element_shape=zeros.shape, clear_after_read=False)
    return array.unstack(tf.repeat(zeros[tf.newaxis], count, axis=0))


def over_pairs(blocks: Blocks, body: Callable, start: tuple) -> tuple:
    """What `body(row, column, *values)` makes of `start` for one pair of blocks after another."""
    if blocks.pairs == 1:
        return tuple(body(tf.constant(0), tf.constant(0), *start))

    def turn(number, row, column, *values):
        return number + 1, *blocks.after(row, column), *body(row, column, *values)

    zero = tf.constant(0)
    found = tf.while_loop(
        lambda number, *_: number < blocks.pairs,
        turn,
        (zero, zero, zero, *start),
        parallel_iterations=1,
    )
    return tuple(found[3:])

"""Who sees whom, as what it follows from: so any part of the mask can be had without the whole."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.models.inputs import gathered


class Tokens(NamedTuple):
    """What decides on who sees whom, of the tokens that see or of those that are seen."""

    groups: tf.Tensor  # int32 [B, T]: tokens see those of their own group; nobody sees group 0
    places: tf.Tensor  # int32 [B, T], in their row: nobody sees a later place
    positions: tf.Tensor  # int32 [B, T], by which windows go

    def part(self, first, count: int) -> "Tokens":
        """`count` of them, from `first` on."""
        return Tokens(*(tf.slice(x, [0, first], [-1, count]) for x in self))

    def padded(self, more) -> "Tokens":
        """With `more` behind them that see nothing and that nobody sees."""
        return Tokens(*(tf.pad(x, [[0, 0], [0, more]]) for x in self))


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """Which tokens each token sees, of the newest `window` alone where there is one.

    Not a tuple: Keras lets no argument of a layer be one that holds more than tensors.
    """

    queries: Tokens
    keys: Tokens
    window: int | None = None
    in_order: bool = True
    """Whether the tokens that see are those that are seen."""

    def mask(self) -> tf.Tensor:
        """bool [B, T, S]."""

        def row(x):
            return x[:, :, tf.newaxis]

        def column(x):
            return x[:, tf.newaxis]

        queries, keys = self.queries, self.keys
        same = (row(queries.groups) == column(keys.groups)) & column(keys.groups > 0)
        seen = same & (row(queries.places) >= column(keys.places))
        if self.window is None:
            return seen
        return seen & (row(queries.positions) - column(keys.positions) < self.window)

    def at(self, places: tf.Tensor) -> "Seen":
        """What the tokens at `places` alone see, int32 [B, K]."""
        queries = Tokens(*(gathered(x, places) for x in self.queries))
        return dataclasses.replace(self, queries=queries, in_order=False)


def seen_of(inputs: Inputs, most: int) -> Seen:
    """The rule of `visible_tokens`, with each token's position, counted `most` keys at a time."""
    segments = inputs.get("segment_ids")
    # A token that is masked is seen by none, and sees what comes before it.
    seen = inputs["attention_mask"] != 0 if segments is None else segments
    groups = tf.cast(seen, tf.int32)
    length = groups.shape[1]
    keys = Tokens(groups, tf.zeros_like(groups) + tf.range(length), tf.zeros_like(groups))
    queries = keys if segments is not None else keys._replace(groups=tf.ones_like(groups))
    blocks = -(-length // most)
    cut = keys.padded(blocks * most - length)

    def counted(block, counts):
        mask = Seen(queries, cut.part(block * most, most)).mask()
        return block + 1, counts + tf.reduce_sum(tf.cast(mask, tf.int32), axis=2)

    _, counts = tf.while_loop(
        lambda block, _: block < blocks, counted, (tf.constant(0), tf.zeros_like(groups))
    )
    positions = tf.maximum(counts - 1, 0)
    return Seen(queries._replace(positions=positions), keys._replace(positions=positions))


def seen_at(visible: tf.Tensor | Seen, places: tf.Tensor) -> tf.Tensor | Seen:
    """What the tokens at `places` see, int32 [B, K]; `visible` as attention takes it."""
    return visible.at(places) if isinstance(visible, Seen) else gathered(visible, places)

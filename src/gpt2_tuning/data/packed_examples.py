"""Updates of as many examples as asked for, packed in rows of a static shape.

A compiler that works per shape makes at most two of them, which differ in the length of their rows
alone: one that suits nearly every update, and one into which any goes. Little is padding in the
first, as all updates of an epoch have nearly as many tokens. Which examples make an update follows
from (seed, epoch) and `batch_size` alone, not from the shape.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from gpt2_tuning.data.batch_arrays import (
    PlannedBatch,
    packed_classification_batch,
    up_to_multiple,
)
from gpt2_tuning.data.batches import BatchSource, MakeBatch, choose_buckets

EXCHANGES = 24
"""Times that each update may exchange an example with another: with fewer, they differ more."""
TRIED_UPDATES = 512
"""Updates of which a shape is the cheapest for all, at least: one that occurs less often than in
so many is not worth a thought."""
TRIED_SHAPES = 12
"""Numbers of rows that are tried."""
LONGEST_ROW = 1.5
"""How many times as long as the longest example a row may be. Longer rows would leave still less
padding, but the longer a row, the more attention costs for each of its tokens."""
SHORT = 32
"""Tokens that the longest example counts as, at least: in such rows attention costs next to
nothing."""
ALIGNED = 8
"""Rows are a multiple of so many tokens long, which suits matrix units."""


class Shape(NamedTuple):
    """Of a packed batch: its rows, the tokens of each, and the examples that each may hold."""

    rows: int
    length: int
    places: int


@dataclasses.dataclass(frozen=True)
class PackedExamples(BatchSource):
    """Batches of `batch_size` examples in fewer rows; used as BatchSource is.

    The examples of an epoch are divided evenly: 17 in updates of at most 16 are 9 and 8.
    """

    make_batch: MakeBatch = packed_classification_batch
    parts: int = 1
    """The number of rows is a multiple of this: devices, times the parts that each computes."""

    @property
    def content(self) -> str:
        """As BatchSource's."""
        return f"{super().content}, those of an update packed in {self.shapes[0].rows} rows"

    @property
    def divided(self) -> str:
        """As BatchSource's."""
        return "balanced over the epoch"

    @property
    def most(self) -> int:
        """The examples of the largest update: at most `batch_size`."""
        return -(-self.rows // self.steps)

    @functools.cached_property
    def tried(self) -> np.ndarray:
        """int64 [TRIED_UPDATES or more, most]: lengths in the updates of some epochs."""
        epochs = range(-(-TRIED_UPDATES // self.steps))
        return np.concatenate([self.lengths_of(self.updates(0, epoch)) for epoch in epochs])

    @functools.cached_property
    def longest(self) -> np.ndarray:
        """int64 [1, most]: lengths that no update exceeds at any place, in whatever epoch.

        They are the longest of each class of which `balanced_updates` gives an update one example.
        """
        return np.sort(self.records.lengths)[np.newaxis, :: -self.steps]

    @property
    def long(self) -> int:
        """Tokens of which a row may have LONGEST_ROW times as many."""
        return max(SHORT, int(aligned(self.longest[0, 0])))

    @functools.cached_property
    def shapes(self) -> tuple[Shape, Shape]:
        """The usual shape of a batch, and the one of those that do not fit it; may be the same.

        Those with which the updates tried take the fewest tokens. Into the other any update fits,
        with its examples in rows as those of `longest` are.
        """
        found, fewest = [], np.inf
        for rows in self.numbers_of_rows():
            places = places_of(rows, self.most)
            length = int(aligned(into_rows(self.longest, rows, places)[1][0]))
            if length > LONGEST_ROW * self.long and rows < self.most:
                continue
            needed = np.minimum(aligned(into_rows(self.tried, rows, places)[1]), length)
            lengths = choose_buckets(np.append(needed, length), 2)
            tokens = rows * lengths[np.searchsorted(lengths, needed)].sum()
            if tokens < fewest:
                found = [Shape(rows, int(length), places) for length in lengths]
                fewest = tokens
        return found[0], found[-1]

    def numbers_of_rows(self) -> list[int]:
        """Which numbers are worth a try, the largest first: of equals, the shorter rows win.

        With them rows are from half to LONGEST_ROW times as long as the longest example. Of rows as
        many as examples none is longer than that.
        """
        ratio = self.records.lengths.sum() / self.steps / self.long
        most, fewest = np.clip(np.ceil([2 * ratio, ratio / LONGEST_ROW]), 1, self.most)
        tried = [self.most, *np.linspace(most, fewest, TRIED_SHAPES).astype(int).tolist()]
        return sorted({up_to_multiple(rows, self.parts) for rows in tried}, reverse=True)

    def plan(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch, in order."""
        return self.planned(self.updates(seed, epoch))

    def plan_in_order(self) -> list[PlannedBatch]:
        """Every example once, in an order that never changes."""
        return self.planned(self.updates(0, 0))

    def updates(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [steps, most]: an epoch's examples; see `balanced_updates`."""
        generator = np.random.default_rng([seed, epoch])
        return balanced_updates(self.records.lengths, self.steps, generator)

    def lengths_of(self, updates: np.ndarray) -> np.ndarray:
        """int64 [updates, most]: the examples' lengths, 0 where there is none."""
        return lengths_in(updates, self.records.lengths)

    def planned(self, updates: np.ndarray) -> list[PlannedBatch]:
        """Each update in the first shape that it fits."""
        usual, large = self.shapes
        row_of, fullest = into_rows(self.lengths_of(updates), usual.rows, usual.places)
        in_large = into_rows(self.longest, large.rows, large.places)[0][0]
        plan = []
        for examples, rows, tokens in zip(updates, row_of, fullest, strict=True):
            shape = usual
            if tokens > usual.length:
                shape, rows = large, in_large
            by_row = np.argsort(rows[examples >= 0], kind="stable")
            plan.append(
                PlannedBatch(examples[by_row], shape.length, rows[by_row], shape.rows, shape.places)
            )
        return plan


def balanced_updates(lengths: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """One epoch's examples in so many updates with nearly as many tokens each.

    The examples are divided into classes of similar length, of `count` each, and every update gets
    one of each class, by chance. Then updates with many tokens exchange an example with those that
    have few, of the class with which the two become most alike.

    Args:
        lengths: int64 [examples].
        count: how many updates.
        generator: decides on everything that is left to chance.

    Returns:
        int64 [count, ceil(examples / count)]: numbers of examples, the longest class first. Of the
        shortest class some updates may have none, which is -1.
    """
    size = -(-len(lengths) // count)
    shuffled = generator.permutation(len(lengths))
    ranked = np.full(count * size, -1)
    ranked[: len(lengths)] = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    updates = generator.permuted(ranked.reshape(size, count), axis=1).T.copy()
    tokens = lengths_in(updates, lengths)
    for _ in range(EXCHANGES):
        order = np.argsort(-tokens.sum(axis=1), kind="stable")
        many, few = order[: count // 2], order[::-1][: count // 2]
        apart = tokens[many].sum(axis=1) - tokens[few].sum(axis=1)
        left = np.abs(apart[:, np.newaxis] - 2 * (tokens[many] - tokens[few]))
        place = left.argmin(axis=1)
        better = left.min(axis=1) < apart
        many, few, place = many[better], few[better], place[better]
        for array in (updates, tokens):
            array[many, place], array[few, place] = array[few, place], array[many, place]
    return updates


def lengths_in(updates: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64, as `updates`: the lengths of its examples, 0 where there is none."""
    return np.where(updates < 0, 0, lengths[updates])


def into_rows(lengths: np.ndarray, rows: int, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Spreads the examples of each update over rows so that the fullest row has few tokens.

    The longest first, each goes to the row with the fewest tokens among those with a place left
    (Graham 1969).

    Args:
        lengths: int64 [updates, batch_size], each update's falling.
        rows: how many there are.
        places: how many examples a row may hold; rows * places >= batch_size.

    Returns:
        The row of each example, int64 [updates, batch_size], and the number of tokens in each
        update's fullest row, int64 [updates]. [[5, 4, 3, 2]] in two rows: [[0, 1, 1, 0]], [7].
    """
    tokens, held = np.zeros((2, len(lengths), rows), np.int64)
    row_of = np.zeros_like(lengths)
    every = np.arange(len(lengths))
    for place, longest in enumerate(lengths.T):
        chosen = np.where(held < places, tokens, np.iinfo(np.int64).max).argmin(axis=1)
        row_of[:, place] = chosen
        tokens[every, chosen] += longest
        held[every, chosen] += 1
    return row_of, tokens.max(axis=1)


def places_of(rows: int, batch_size: int) -> int:
    """Places for examples in each of so many rows: twice as many as there are examples.

    So rows of short examples can hold many, and few places are computed for nothing.
    """
    return min(batch_size, 2 * -(-batch_size // rows))


def aligned(lengths: np.ndarray) -> np.ndarray:
    """Lengths rounded up to a multiple of ALIGNED."""
    return -(-lengths // ALIGNED) * ALIGNED

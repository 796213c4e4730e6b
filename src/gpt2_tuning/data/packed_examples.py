"""Updates of a fixed number of examples, packed in rows of a static shape.

A compiler that works per shape makes at most two of them: one that suits nearly every update, and
one that fits any. Little is padding in the first as the updates have nearly as many tokens each.
Which examples make an update follows from (seed, epoch) and `batch_size` alone, not from the shape.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from gpt2_tuning.data.batch_arrays import PlannedBatch, packed_classification_batch
from gpt2_tuning.data.batches import BatchSource, MakeBatch, choose_buckets

WINDOW = 64
"""Updates among which the examples are balanced: the more, the less their numbers of tokens
differ, and the less is left to chance."""
TRIED_UPDATES = 512
"""Updates of which a shape is the cheapest for all, at least: one that occurs less often than in
so many is not worth a thought."""
TRIED_SHAPES = 12
"""Numbers of rows that are tried."""
LONGEST_ROW = 1.5
"""How many times as long as the longest example a row may be. Longer rows would leave still less
padding, but the longer a row, the more attention costs for each of its tokens."""
ALIGNED = 8
"""Rows are a multiple of so many tokens long, which suits matrix units."""


class Shape(NamedTuple):
    """Of a packed batch: its rows, the tokens of each, and the examples that each may hold."""

    rows: int
    length: int
    places: int


@dataclasses.dataclass(frozen=True)
class PackedExamples(BatchSource):
    """Batches of `batch_size` examples in fewer rows; used as BatchSource is."""

    make_batch: MakeBatch = packed_classification_batch
    parts: int = 1
    """The number of rows is a multiple of this: devices, times the parts that each computes."""

    @property
    def content(self) -> str:
        """As BatchSource's."""
        return f"{super().content}, those of an update packed in {self.shapes[0].rows} rows"

    @functools.cached_property
    def tried(self) -> np.ndarray:
        """int64 [TRIED_UPDATES or more, batch_size]: updates of some epochs, by which to choose."""
        epochs = range(-(-TRIED_UPDATES // self.steps))
        return np.concatenate([self.updates(0, epoch) for epoch in epochs])

    @functools.cached_property
    def shapes(self) -> tuple[Shape, Shape]:
        """The usual shape of a batch, and the one of those that do not fit it; may be the same.

        The usual one is that with which all take the fewest tokens. Into the other every update
        fits: it has a row for each example.
        """
        rows = up_to_multiple(self.batch_size, self.parts)
        large = Shape(rows, int(aligned(self.records.lengths.max())), 1)
        most = large.rows * large.length
        lengths = self.lengths_of(self.tried)
        found, fewest = large, np.inf
        for rows in self.numbers_of_rows(lengths):
            places = places_of(rows, self.batch_size)
            tokens = rows * aligned(into_rows(lengths, rows, places)[1])
            sizes = choose_buckets(np.append(np.minimum(tokens, most), most), 2)
            total = sizes[np.searchsorted(sizes, np.minimum(tokens, most))].sum()
            if total < fewest and len(sizes) == 2:
                found, fewest = Shape(rows, int(sizes[0]) // rows, places), total
        return found, large

    def numbers_of_rows(self, lengths: np.ndarray) -> list[int]:
        """Which numbers are worth a try, the largest first: of equals, the shorter rows win.

        With them rows are from half to LONGEST_ROW times as long as the longest example.
        """
        ratio = lengths.sum(axis=1).mean() / self.records.lengths.max()
        most, fewest = np.clip(np.ceil([2 * ratio, ratio / LONGEST_ROW]), 1, self.batch_size)
        tried = np.linspace(most, fewest, TRIED_SHAPES).astype(int)
        return sorted({up_to_multiple(rows, self.parts) for rows in tried.tolist()}, reverse=True)

    def plan(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch, in order."""
        return self.planned(self.updates(seed, epoch))

    def plan_in_order(self) -> list[PlannedBatch]:
        """Every example once, in an order that never changes."""
        return self.planned(self.updates(0, 0))

    def updates(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [steps, batch_size]: an epoch's examples; see `balanced_updates`."""
        generator = np.random.default_rng([seed, epoch])
        return balanced_updates(self.records.lengths, self.batch_size, generator)

    def lengths_of(self, updates: np.ndarray) -> np.ndarray:
        """int64 [updates, batch_size]: the examples' lengths, 0 where there is none."""
        return np.where(updates < 0, 0, self.records.lengths[updates])

    def planned(self, updates: np.ndarray) -> list[PlannedBatch]:
        """Each update in the first shape that it fits."""
        usual, large = self.shapes
        row_of, fullest = into_rows(self.lengths_of(updates), usual.rows, usual.places)
        plan = []
        for examples, rows, tokens in zip(updates, row_of, fullest, strict=True):
            shape = usual
            if tokens > usual.length:
                shape, rows = large, np.arange(len(rows))
            by_row = np.argsort(rows[examples >= 0], kind="stable")
            plan.append(
                PlannedBatch(examples[by_row], shape.length, rows[by_row], shape.rows, shape.places)
            )
        return plan


def balanced_updates(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator
) -> np.ndarray:
    """One epoch's examples in updates with nearly as many tokens each, in shuffled order.

    In a window of updates each is given one example at a time, the longest first, and of those the
    longest goes to the update with the fewest tokens so far.

    Args:
        lengths: int64 [examples].
        batch_size: examples in an update.
        generator: decides on everything that is left to chance.

    Returns:
        int64 [updates, batch_size]: numbers of examples, the longest of an update first. The
        examples that are left after all full updates make one more, which ends in -1.
    """
    shuffled = generator.permutation(len(lengths))
    full, left = divmod(len(lengths), batch_size)
    updates = np.full((full + bool(left), batch_size), -1)
    windows = np.array_split(shuffled[left:].reshape(full, batch_size), -(-full // WINDOW) or 1)
    updates[:full] = np.concatenate([balanced(lengths, window) for window in windows])
    rest = shuffled[:left]
    updates[full:, :left] = rest[np.argsort(-lengths[rest], kind="stable")]
    return generator.permutation(updates)


def balanced(lengths: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The examples of a window, int64 [updates, batch_size], dealt anew, the longest first."""
    ranked = window.ravel()[np.argsort(-lengths[window.ravel()], kind="stable")]
    dealt, tokens = np.empty_like(window), np.zeros(len(window), np.int64)
    for place, examples in enumerate(ranked.reshape(window.shape[::-1])):
        fewest = np.argsort(tokens, kind="stable")
        dealt[fewest, place] = examples
        tokens[fewest] += lengths[examples]
    return dealt


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


def up_to_multiple(count: int, of: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // of) * of

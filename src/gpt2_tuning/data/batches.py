"""Which rows go into which batch; all plain numpy.

Rows of similar length share a batch, every row comes once an epoch, and the order follows from
(seed, epoch) alone, so that a run can continue at any step. Every batch has the same number of
rows: places without a row hold padding of weight 0, which no sum counts.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gpt2_tuning.data.batch_arrays import (
    Batch,
    PlannedBatch,
    classification_batch,
    up_to_multiple,
)
from gpt2_tuning.data.tfrecords import Records

BUCKETS = 12
"""Few enough for a compiler that works per shape; on 20-token texts 93 % of the tokens are real."""


def choose_buckets(lengths: np.ndarray, count: int = BUCKETS) -> np.ndarray:
    """The at most `count` lengths to pad to with which the rows need the least padding in all.

    Dynamic programming over the distinct lengths: the cheapest split of the i shortest into k
    buckets extends the cheapest split of fewer into k - 1.

    Args:
        lengths: int [N], at least one.

    Returns:
        int64 [<= count], rising; the last is the largest length. [2, 2, 3, 9] in two: [3, 9].
    """
    sizes, rows = np.unique(np.asarray(lengths, np.int64), return_counts=True)
    before = np.concatenate([[0], np.cumsum(rows)])  # rows shorter than sizes[i]
    # cost[i, j]: tokens of one bucket that holds the lengths i..j.
    cost = (before[np.newaxis, 1:] - before[:-1, np.newaxis]) * sizes.astype(float)
    cost[np.tril_indices(len(sizes), -1)] = np.inf
    cheapest = np.full(len(sizes), np.inf)
    starts = []
    for bucket in range(min(count, len(sizes))):
        previous = np.concatenate([[0.0 if bucket == 0 else np.inf], cheapest[:-1]])
        total = previous[:, np.newaxis] + cost
        starts.append(total.argmin(axis=0))
        cheapest = total.min(axis=0)
    buckets, last = [], len(sizes) - 1
    for start in reversed(starts):
        buckets.append(sizes[last])
        last = start[last] - 1
    return np.asarray(buckets[::-1], np.int64)


def plan_epoch(
    lengths: np.ndarray, buckets: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[PlannedBatch]:
    """One epoch's batches in shuffled order: ceil(N / batch_size) of them, whatever the shuffle.

    Rows that do not fill a batch in their bucket move up to the next longer one.
    """
    generator = np.random.default_rng([seed, epoch])
    bucket_of = np.searchsorted(buckets, lengths)
    shuffled = generator.permutation(len(lengths))
    planned: list[PlannedBatch] = []
    waiting = shuffled[:0]
    for index, length in enumerate(buckets):
        waiting = np.concatenate([waiting, shuffled[bucket_of[shuffled] == index]])
        full = len(waiting) // batch_size * batch_size
        for start in range(0, full, batch_size):
            planned.append(PlannedBatch(waiting[start : start + batch_size], int(length)))
        waiting = waiting[full:]
    if len(waiting):
        planned.append(PlannedBatch(waiting, int(buckets[-1])))
    return [planned[index] for index in generator.permutation(len(planned))]


def plan_in_order(lengths: np.ndarray, buckets: np.ndarray, batch_size: int) -> list[PlannedBatch]:
    """Every row once, shortest first: for evaluation and prediction."""
    rows = np.argsort(lengths, kind="stable")
    planned = []
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        planned.append(
            PlannedBatch(chosen, int(buckets[np.searchsorted(buckets, lengths[chosen[-1]])]))
        )
    return planned


MakeBatch = Callable[[Records, PlannedBatch, int], Batch]


@dataclasses.dataclass(frozen=True)
class BatchSource:
    """The batches of one split: `epoch(seed, epoch)` to train on, `in_order()` to evaluate."""

    records: Records
    batch_size: int
    make_batch: MakeBatch = classification_batch
    bucket_count: int = BUCKETS
    """How many lengths rows are padded to, at most."""

    @functools.cached_property
    def buckets(self) -> np.ndarray:
        """int64 [<= bucket_count], rising: the lengths that rows are padded to."""
        return choose_buckets(self.records.lengths, self.bucket_count)

    @property
    def rows(self) -> int:
        """What `batch_size` counts: the examples, here."""
        return len(self.records)

    @property
    def steps(self) -> int:
        """Batches in an epoch, the same in every epoch."""
        return -(-self.rows // self.batch_size)

    @property
    def divided(self) -> str | None:
        """How the examples are divided into updates, where earlier versions did otherwise."""
        return None

    @property
    def content(self) -> str:
        """What there is to learn from, for people to read."""
        return f"{len(self.records):,} examples"

    def plan(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch, in order."""
        return plan_epoch(self.records.lengths, self.buckets, self.batch_size, seed, epoch)

    def plan_in_order(self) -> list[PlannedBatch]:
        """Every row once, shortest rows first."""
        return plan_in_order(self.records.lengths, self.buckets, self.batch_size)

    def epoch(self, seed: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch from `first_step` on."""
        yield from self.made(self.plan(seed, epoch)[first_step:])

    def in_order(self) -> Iterator[Batch]:
        """Yields every row once, in an order that never changes."""
        yield from self.made(self.plan_in_order())

    def padding_share(self, parts: int = 1) -> float:
        """The share of padding in what an epoch computes, its batches in so many equal parts."""
        plan = self.plan(0, 0)
        computed = sum(
            up_to_multiple(planned.row_count or self.batch_size, parts) * planned.length
            for planned in plan
        )
        return 1 - float(self.records.lengths.sum() / computed)

    def made(self, plan: Iterable[PlannedBatch]) -> Iterator[Batch]:
        """Yields the batches of a plan."""
        for planned in plan:
            yield self.make_batch(self.records, planned, planned.row_count or self.batch_size)

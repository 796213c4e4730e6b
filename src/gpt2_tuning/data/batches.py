"""Which rows go into which batch, and the arrays of a batch; all plain numpy.

Rows of similar length share a batch, every row comes once an epoch, and the order follows from
(seed, epoch) alone, so that a run can continue at any step. Every batch has the same number of
rows: places without a row hold padding of weight 0, which no sum counts.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from gpt2_tuning.config import END_OF_TEXT
from gpt2_tuning.data.tfrecords import Records

BUCKETS = 12
"""Few enough for a compiler that works per shape; on 20-token texts 93 % of the tokens are real."""


TARGET_SIZES = 8
"""How many widths the targets of batches of one length may have, for the same reason."""


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """Which examples make a batch, and the length that its rows have."""

    rows: np.ndarray
    """int64 [n]: numbers of examples; n <= batch_size unless several share a row of the batch."""
    length: int
    row_of: np.ndarray | None = None
    """int64 [n], rising: the row of the batch that each example goes to, where several share one;
    None where each has its own."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Arrays of one batch of B rows, as models take them.

    `inputs` holds `token_ids` and `attention_mask`, int32 [B, T], or in packed batches
    `segment_ids` instead of the mask (0 = padding, 1.. = which example of the row).

    For classes, `targets` is int32 [B] and `weights` float32 [B]: 1, or 0 in places without a row.
    For language models both are [B, K], `inputs` has `target_positions`, int32 [B, K], and a
    weight is 0 where a row has fewer than K targets.
    """

    inputs: dict[str, np.ndarray]
    targets: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    """int64 [n]: the numbers of the examples in it, by which a bad one is found."""

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        name = "segment_ids" if "segment_ids" in self.inputs else "attention_mask"
        return int(np.count_nonzero(self.inputs[name]))

    @property
    def computed_tokens(self) -> int:
        """Tokens the model computes, padding among them."""
        return self.inputs["token_ids"].size


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


def padded(records: Records, planned: PlannedBatch, batch_size: int) -> dict[str, np.ndarray]:
    """`token_ids` and `attention_mask`, int32 [batch_size, planned.length], padded on the right.

    The mask comes from the lengths alone, so a 50256 inside a text stays visible.
    """
    token_ids = np.full((batch_size, planned.length), END_OF_TEXT, np.int32)
    mask = np.zeros((batch_size, planned.length), np.int32)
    places = np.arange(planned.length)
    real = places < records.lengths[planned.rows][:, np.newaxis]  # [rows, length]
    sources = records.offsets[planned.rows][:, np.newaxis] + places
    token_ids[: len(planned.rows)][real] = records.tokens[sources[real]]
    mask[: len(planned.rows)] = real
    return {"token_ids": token_ids, "attention_mask": mask}


def classification_batch(records: Records, planned: PlannedBatch, batch_size: int) -> Batch:
    """A batch of labelled rows."""
    targets = np.zeros(batch_size, np.int32)
    weights = np.zeros(batch_size, np.float32)
    targets[: len(planned.rows)] = records.columns["label"][planned.rows]
    weights[: len(planned.rows)] = 1
    return Batch(padded(records, planned, batch_size), targets, weights, planned.rows)


def language_model_batch(records: Records, planned: PlannedBatch, batch_size: int) -> Batch:
    """A batch for predicting next tokens, packed or with an example a row.

    The target of position t is token t + 1. Targets are an example's tokens from `prompt_length`
    on, so none is in another example than its position, and padding is never one.

    Tokens [5, 6, 7, 8] with prompt_length 2, alone in a row of 6:
        token_ids        [5, 6, 7, 8, 50256, 50256]
        attention_mask   [1, 1, 1, 1, 0, 0]
        target_positions [1, 2, 0, ...], targets [7, 8, 0, ...], weights [1, 1, 0, ...]
    """
    rows, offsets = planned.rows, records.offsets
    lengths = offsets[rows + 1] - offsets[rows]
    row_of = np.arange(len(rows)) if planned.row_of is None else planned.row_of
    first = np.searchsorted(row_of, row_of)  # the first example of the same row
    starts = before(lengths) - before(lengths)[first]

    example, place = spread(lengths)
    where = (row_of[example], starts[example] + place)
    token_ids = np.full((batch_size, planned.length), END_OF_TEXT, np.int32)
    segments = np.zeros((batch_size, planned.length), np.int32)
    token_ids[where] = records.tokens[offsets[rows][example] + place]
    segments[where] = (np.arange(len(rows)) - first + 1)[example]

    counts = target_counts(records)[rows]
    prompts = lengths - counts
    columns = before(counts) - before(counts)[first]
    width = target_width(int(np.bincount(row_of, counts).max()), planned.length)
    example, place = spread(counts)
    where = (row_of[example], columns[example] + place)
    positions, targets = np.zeros((2, batch_size, width), np.int32)
    weights = np.zeros((batch_size, width), np.float32)
    positions[where] = starts[example] + prompts[example] - 1 + place
    targets[where] = records.tokens[offsets[rows][example] + prompts[example] + place]
    weights[where] = 1

    mask = "attention_mask" if planned.row_of is None else "segment_ids"
    inputs = {"token_ids": token_ids, mask: segments, "target_positions": positions}
    return Batch(inputs, targets, weights, rows)


def target_counts(records: Records) -> np.ndarray:
    """int64 [examples]: how many tokens of each example are learnt; never its first one."""
    return records.lengths - np.maximum(records.columns["prompt_length"], 1)


def before(counts: np.ndarray) -> np.ndarray:
    """For each count, the sum of those before it: [2, 3, 1] to [0, 2, 5]."""
    return np.cumsum(counts) - counts


def spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As many places for each entry as it counts: [2, 1] to entries [0, 0, 1], places [0, 1, 0]."""
    entries = np.repeat(np.arange(len(counts)), counts)
    return entries, np.arange(len(entries)) - before(counts)[entries]


def target_width(count: int, length: int) -> int:
    """`count` targets rounded up to one of TARGET_SIZES widths for rows of `length` tokens."""
    step = -(-length // TARGET_SIZES)
    return max(1, -(-count // step)) * step


MakeBatch = Callable[[Records, PlannedBatch, int], Batch]


@dataclasses.dataclass(frozen=True)
class BatchSource:
    """The batches of one split: `epoch(seed, epoch)` to train on, `in_order()` to evaluate."""

    records: Records
    batch_size: int
    make_batch: MakeBatch = classification_batch
    buckets: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "buckets", choose_buckets(self.records.lengths))

    @property
    def steps(self) -> int:
        """Batches in an epoch, the same in every epoch."""
        return -(-len(self.records) // self.batch_size)

    def plan(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch, in order."""
        return plan_epoch(self.records.lengths, self.buckets, self.batch_size, seed, epoch)

    def plan_in_order(self) -> list[PlannedBatch]:
        """Every row once, shortest rows first."""
        return plan_in_order(self.records.lengths, self.buckets, self.batch_size)

    def epoch(self, seed: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch from `first_step` on."""
        for planned in self.plan(seed, epoch)[first_step:]:
            yield self.make_batch(self.records, planned, self.batch_size)

    def in_order(self) -> Iterator[Batch]:
        """Yields every row once, in an order that never changes."""
        for planned in self.plan_in_order():
            yield self.make_batch(self.records, planned, self.batch_size)

"""The arrays of a batch, as models take them, from the examples that a plan puts into it.

A batch has as many rows as planned: places without an example hold padding of weight 0, which no
sum counts.
"""

import dataclasses

import numpy as np

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.data.tfrecords import WEIGHT, Records

TARGET_SIZES = 8
"""How many widths the targets of batches of one length may have: few, for a compiler that works per
shape."""


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """Which examples make a batch, and the length that its rows have."""

    rows: np.ndarray
    """int64 [n]: numbers of examples; n <= batch_size unless several share a row of the batch."""
    length: int
    row_of: np.ndarray | None = None
    """int64 [n], rising: the row of the batch that each example goes to, where several share one;
    None where each has its own."""
    row_count: int | None = None
    """How many rows the batch has; None is as many as its source's `batch_size` says."""
    places: int | None = None
    """K: at how many places each row is read, where several examples share one or the row is a
    language model's; None is then the largest number of targets, rounded up (`target_width`)."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Arrays of one batch of B rows, as models take them.

    `inputs` holds `token_ids` and `attention_mask`, int32 [B, T], or in packed batches
    `segment_ids` instead of the mask (0 = padding, 1.. = which example of the row).

    For classes, `targets` is int32 [B] and `weights` float32 [B]: 1, or what the row's column
    `weight` has, and 0 in places without a row.
    In packed batches both are [B, K], and `inputs` has `last_positions`, int32 [B, K]: where the
    last token of each of a row's examples is; a weight is 0 where a row has fewer than K.
    For language models both are [B, K], `inputs` has `target_positions`, int32 [B, K], and a
    weight is 0 where a row has fewer than K targets.
    """

    inputs: Inputs
    targets: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    """int64 [n]: the numbers of the examples in it, by which a bad one is found."""

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        segments = self.inputs.get("segment_ids")
        real = self.inputs["attention_mask"] if segments is None else segments
        return int(np.count_nonzero(real))

    @property
    def computed_tokens(self) -> int:
        """Tokens the model computes, padding among them."""
        return self.inputs["token_ids"].size


def padded(records: Records, planned: PlannedBatch, batch_size: int) -> Inputs:
    """`token_ids` and `attention_mask`, int32 [batch_size, planned.length], padded on the right.

    The mask comes from the lengths alone, so the id of padding inside a text stays visible.
    """
    token_ids = np.full((batch_size, planned.length), records.pad, np.int32)
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
    weights[: len(planned.rows)] = weights_of(records, planned.rows)
    return Batch(padded(records, planned, batch_size), targets, weights, planned.rows)


def language_model_batch(records: Records, planned: PlannedBatch, batch_size: int) -> Batch:
    """A batch for predicting next tokens, packed or with an example a row.

    The target of position t is token t + 1. Targets are an example's tokens from `prompt_length`
    on, or of these those that `records.learnt` names. So none is in another example than its
    position, and padding is never one.

    Tokens [5, 6, 7, 8] with prompt_length 2, alone in a row of 6, with padding 99:
        token_ids        [5, 6, 7, 8, 99, 99]
        attention_mask   [1, 1, 1, 1, 0, 0]
        target_positions [1, 2, 0, ...], targets [7, 8, 0, ...], weights [1, 1, 0, ...]
    """
    rows, offsets = planned.rows, records.offsets
    row_of = np.arange(len(rows)) if planned.row_of is None else planned.row_of
    inputs, starts = packed(records, planned, row_of, batch_size)
    counts = records.target_counts[rows]
    columns = before_in_row(counts, row_of)
    width = planned.places
    if width is None:
        width = target_width(int(np.bincount(row_of, counts).max()), planned.length)
    example, place = spread(counts)
    where = (row_of[example], columns[example] + place)
    at = targets_at(records, rows[example], place)
    positions, targets, weights = nothing_read(batch_size, width)
    positions[where] = starts[example] + at - offsets[rows[example]] - 1
    targets[where] = records.tokens[at]
    weights[where] = 1
    if planned.row_of is None:
        inputs["attention_mask"] = inputs.pop("segment_ids")
    inputs["target_positions"] = positions
    return Batch(inputs, targets, weights, rows)


def packed_classification_batch(records: Records, planned: PlannedBatch, rows: int) -> Batch:
    """A batch of labelled examples of which several share a row, each read at its last token.

    Tokens [5, 6, 7] of class 1 and [8, 9] of class 0 in a row of 6, with 3 places and padding 99:
        token_ids      [5, 6, 7, 8, 9, 99]
        segment_ids    [1, 1, 1, 2, 2, 0]
        last_positions [2, 4, 0], targets [1, 0, 0], weights [1, 1, 0]
    """
    assert planned.row_of is not None
    assert planned.places is not None
    inputs, starts = packed(records, planned, planned.row_of, rows)
    where = (planned.row_of, before_in_row(np.ones_like(starts), planned.row_of))
    positions, targets, weights = nothing_read(rows, planned.places)
    positions[where] = starts + lengths_of(records, planned.rows) - 1
    targets[where] = records.columns["label"][planned.rows]
    weights[where] = weights_of(records, planned.rows)
    inputs["last_positions"] = positions
    return Batch(inputs, targets, weights, planned.rows)


def weights_of(records: Records, rows: np.ndarray) -> np.ndarray | float:
    """How much examples count, float32 [n], where they have a weight; else each counts as 1."""
    return records.columns[WEIGHT][rows] if WEIGHT in records.columns else 1.0


def packed(
    records: Records, planned: PlannedBatch, row_of: np.ndarray, rows: int
) -> tuple[Inputs, np.ndarray]:
    """The examples one after another in their rows.

    Returns:
        `token_ids` and `segment_ids`, int32 [rows, planned.length], and where in its row each
        example starts, int64 [n].
    """
    lengths = lengths_of(records, planned.rows)
    starts = before_in_row(lengths, row_of)
    example, place = spread(lengths)
    where = (row_of[example], starts[example] + place)
    token_ids = np.full((rows, planned.length), records.pad, np.int32)
    segments = np.zeros((rows, planned.length), np.int32)
    token_ids[where] = records.tokens[records.offsets[planned.rows][example] + place]
    segments[where] = (before_in_row(np.ones_like(lengths), row_of) + 1)[example]
    return {"token_ids": token_ids, "segment_ids": segments}, starts


def nothing_read(rows: int, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and targets, int32, and weights, float32, all [rows, places] and zero."""
    positions, targets = np.zeros((2, rows, places), np.int32)
    return positions, targets, np.zeros((rows, places), np.float32)


def lengths_of(records: Records, rows: np.ndarray) -> np.ndarray:
    """int64 [n]: of these examples alone, where `records.lengths` works through all of them."""
    return records.offsets[rows + 1] - records.offsets[rows]


def targets_at(records: Records, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    """int64 [n]: where in `records.tokens` the `place`-th learnt token of each of these rows is."""
    counts = records.target_counts
    if records.learnt is None:  # they are an example's last tokens
        return records.offsets[rows + 1] - counts[rows] + place
    return records.targets_at[records.targets_before[rows] + place]


def before(counts: np.ndarray) -> np.ndarray:
    """For each count, the sum of those before it: [2, 3, 1] to [0, 2, 5]."""
    return np.cumsum(counts) - counts


def before_in_row(counts: np.ndarray, row_of: np.ndarray) -> np.ndarray:
    """For each count, the sum of those before it in its row, where `row_of` rises.

    [2, 3, 1] in the rows [0, 0, 1] gives [0, 2, 0].
    """
    sums = before(counts)
    return sums - sums[np.searchsorted(row_of, row_of)]


def spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As many places for each entry as it counts: [2, 1] to entries [0, 0, 1], places [0, 1, 0]."""
    entries = np.repeat(np.arange(len(counts)), counts)
    return entries, np.arange(len(entries)) - before(counts)[entries]


def up_to_multiple(count: int, of: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // of) * of


def target_width(count: int, length: int) -> int:
    """`count` targets rounded up to one of TARGET_SIZES widths for rows of `length` tokens."""
    step = -(-length // TARGET_SIZES)
    return max(1, -(-count // step)) * step

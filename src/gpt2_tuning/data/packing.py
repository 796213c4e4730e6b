"""Packing: rows of fixed length that hold several examples each, so that little is padding.

A packing is found once, for classes of similar length rather than for the examples themselves: it
says which classes share a row. Each epoch then deals the examples of a class anew to the places of
that class. So what shares a row changes from epoch to epoch and follows from (seed, epoch), every
example comes once, and the number of rows and of steps never changes.
"""

import bisect
import dataclasses
import functools

import numpy as np

from gpt2_tuning.data.batch_arrays import (
    TARGET_SIZES,
    PlannedBatch,
    language_model_batch,
    spread,
    up_to_multiple,
)
from gpt2_tuning.data.batches import BatchSource, MakeBatch, choose_buckets
from gpt2_tuning.families.known import MAX_SEQ_LEN

LENGTH_CLASSES = (16, 128)
"""How many there are, at least (if the examples have as many lengths) and at most. With 128, rows
of 1,024 tokens filled as Databricks Dolly fills them are 1 % padding."""
CLASS_SIZE = 8
"""Examples in a class, on average, within those bounds: fewer could hardly change places."""
LEFT_EMPTY = 0.02
"""Of the room for an epoch's rows, what may be left empty before rows are made shorter."""
SHORTEST_ROW = 6
"""How many times as long as the longest example rows are then, at least: shorter ones would hold
few, which seldom fill them."""
ROW_STEPS = 100
"""Rows that turn out too short become longer by a part in so many of their length."""
POOL = 16
"""Batches whose rows are chosen together, so that those of a batch have as many targets."""


@dataclasses.dataclass(frozen=True)
class Packing:
    """Places for examples: each of a length class, in one of `rows` rows."""

    sizes: np.ndarray
    """int64[classes]: the longest example of each class, rising."""
    class_of: np.ndarray
    """int64[examples]: the class of each example."""
    row_of: np.ndarray
    """int64[examples]: the row of each place, places in the order of their classes."""
    rows: int
    """The number of rows."""

    @property
    def row_length(self) -> int:
        """Tokens that the fullest row may come to hold."""
        sizes = self.sizes[np.sort(self.class_of)]
        return int(np.bincount(self.row_of, weights=sizes).max())

    def deal(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Puts the examples into the places of their classes, in the order given.

        Args:
            order: int64[examples], each example once.

        Returns:
            The examples, int64[examples], and each one's row, int64[examples], rising.
        """
        placed = order[np.argsort(self.class_of[order], kind="stable")]
        by_row = np.argsort(self.row_of, kind="stable")
        return placed[by_row], self.row_of[by_row]


def pack(
    lengths: np.ndarray,
    row_length: int,
    classes: int | None = None,
    sizes: np.ndarray | None = None,
) -> Packing:
    """Packs examples into few rows: best fit, the longest first.

    An example goes to the fullest row that still has room for its class (best-fit decreasing,
    which needs about 11/9 of the fewest rows at worst; Johnson et al. 1974).

    Lengths [2, 5, 3, 4] in rows of 7 and 4 classes: [5, 2] and [4, 3].

    Args:
        lengths: int64[examples], each at least 1.
        row_length: tokens of a row.
        classes: how many classes of length there may be; None decides by the number of examples.
        sizes: int64[classes], the longest example of each class, where they are known already.

    Raises:
        ValueError: an example is longer than a row.
    """
    if lengths.max() > row_length:
        raise ValueError(f"an example of {lengths.max()} tokens does not fit a row of {row_length}")
    if sizes is None:
        classes = classes or int(np.clip(len(lengths) // CLASS_SIZE, *LENGTH_CLASSES))
        sizes = choose_buckets(lengths, classes)
    class_of = np.searchsorted(sizes, lengths)
    row_of = np.zeros(len(lengths), np.int64)
    room: list[int] = []  # what is left in the rows, rising
    rows: list[int] = []  # which row that is
    number = 0
    for place, size in reversed(list(enumerate(sizes[np.sort(class_of)].tolist()))):
        fits = bisect.bisect_left(room, size)
        if fits == len(room):
            left, row = row_length, number
            number += 1
        else:
            left, row = room.pop(fits), rows.pop(fits)
        row_of[place] = row
        # A full row leaves the lists, which keeps them short.
        if left > size:
            at = bisect.bisect_left(room, left - size)
            room.insert(at, left - size)
            rows.insert(at, row)
    return Packing(sizes, class_of, row_of, number)


@dataclasses.dataclass(frozen=True)
class PackedSource(BatchSource):
    """Batches of rows that hold several examples each; used as BatchSource is.

    `batch_size` counts rows of `row_length` tokens, so a batch holds many more examples than an
    unpacked one. `segment_ids` keep a row's examples apart. Where those rows would leave much of a
    last batch empty, all batches are smaller: their rows are shorter, or fewer.
    """

    make_batch: MakeBatch = language_model_batch
    row_length: int = MAX_SEQ_LEN
    """Tokens that a row may hold, at least as many as the longest example has."""

    target_widths: int = TARGET_SIZES
    """How many widths the targets of its batches may have, at most."""

    @functools.cached_property
    def packing(self) -> Packing:
        """The places for the examples: in shorter rows, where those make as many batches fuller."""
        lengths = self.records.lengths
        packing = pack(lengths, self.row_length)
        room = up_to_multiple(packing.rows, self.batch_size)
        if room - packing.rows < LEFT_EMPTY * room:
            return packing
        length = max(SHORTEST_ROW * int(lengths.max()), -(-int(lengths.sum()) // room))
        while length < self.row_length:
            shorter = pack(lengths, length, sizes=packing.sizes)
            if shorter.rows <= room:
                return shorter
            length += -(-length // ROW_STEPS)
        return packing

    @property
    def most(self) -> int:
        """The rows of the largest batch, at most `batch_size`; none has two fewer."""
        return -(-self.rows // self.steps)

    @property
    def divided(self) -> str:
        """As BatchSource's."""
        return "rows divided evenly"

    @property
    def rows(self) -> int:
        """What `batch_size` counts: rows of several examples."""
        return self.packing.rows

    @property
    def content(self) -> str:
        """As BatchSource's."""
        length = self.packing.row_length
        return f"{super().content} in {self.rows:,} packed rows of {length:,} tokens"

    @functools.cached_property
    def widths(self) -> np.ndarray:
        """int64 [<= target_widths], rising: how many targets rows have, padding among them.

        The last is enough for any row of any epoch, and with all of them the batches of an epoch
        have the least padding.
        """
        most = np.zeros(len(self.packing.sizes), np.int64)
        np.maximum.at(most, self.packing.class_of, self.records.target_counts)
        of_places = most[np.sort(self.packing.class_of)]
        largest = int(np.bincount(self.packing.row_of, of_places).max())
        found = np.append(self.most_targets(*self.dealt(0, 0)), largest)
        return choose_buckets(found, self.target_widths)

    def plan(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch, in order."""
        return self.planned(*self.dealt(seed, epoch))

    def plan_in_order(self) -> list[PlannedBatch]:
        """Every row once, those with the fewest targets first."""
        examples, row_of = self.packing.deal(np.arange(len(self.records)))
        rows = np.argsort(self.row_targets(examples, row_of), kind="stable")
        return self.planned(examples, row_of, np.array_split(rows, self.steps))

    def dealt(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """What `planned` takes, for an epoch.

        The rows of a batch come from all over the data, but are chosen among those of POOL
        batches to have about as many targets, as the row with the most decides how many logits
        are computed for each.
        """
        generator = np.random.default_rng([seed, epoch])
        examples, row_of = self.packing.deal(generator.permutation(len(self.records)))
        targets = self.row_targets(examples, row_of)
        sizes = [len(rows) for rows in np.array_split(np.arange(self.rows), self.steps)]
        ends = np.cumsum(sizes)[:-1]
        pools = np.split(generator.permutation(self.rows), ends[POOL - 1 :: POOL])
        rows = np.concatenate([pool[np.argsort(targets[pool], kind="stable")] for pool in pools])
        batches = np.split(rows, ends)
        return examples, row_of, [batches[index] for index in generator.permutation(len(batches))]

    def row_targets(self, examples: np.ndarray, row_of: np.ndarray) -> np.ndarray:
        """int64[rows]: how many tokens of each row are learnt; arguments as for `planned`."""
        counts = np.bincount(row_of, self.records.target_counts[examples])
        return counts.astype(np.int64)

    def most_targets(
        self, examples: np.ndarray, row_of: np.ndarray, batches: list[np.ndarray]
    ) -> np.ndarray:
        """int64[batches]: the most targets that a row of each has; arguments as for `planned`."""
        targets = self.row_targets(examples, row_of)
        return np.array([targets[rows].max() for rows in batches])

    def planned(
        self, examples: np.ndarray, row_of: np.ndarray, batches: list[np.ndarray]
    ) -> list[PlannedBatch]:
        """The batches of some rows.

        Args:
            examples: int64[examples], as Packing.deal gives them.
            row_of: int64[examples], the row of each, rising.
            batches: int64[rows of the batch] each; no row comes twice.
        """
        most = self.most_targets(examples, row_of, batches)
        widths = self.widths[np.searchsorted(self.widths, most)]
        length, plan = self.packing.row_length, []
        for rows, width in zip(batches, widths.tolist(), strict=True):
            begin, end = (np.searchsorted(row_of, rows, side) for side in ("left", "right"))
            row, place = spread(end - begin)
            chosen = examples[begin[row] + place]
            plan.append(PlannedBatch(chosen, length, row, self.most, width))
        return plan

"""Prepared data sets as training reads them: checked, and in memory without their padding.

Masks are never stored: they follow from each example's `length`.
"""

import dataclasses
import functools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.examples import LEARNT
from gpt2_tuning.data.metadata import Metadata, prepare_command
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import sha256_of

READ_BATCH = 1024
OF_TOKENS = ("token_ids", LEARNT)
"""What records hold for each token, padding included."""
WEIGHT = "weight"
"""The column of how much rows count in a loss, float32; it is never stored."""


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples of one split in memory, without their padding."""

    tokens: np.ndarray
    """int32[total]: the real tokens of all rows, end to end."""
    offsets: np.ndarray
    """int64[rows + 1]: row i is tokens[offsets[i]:offsets[i + 1]]."""
    columns: dict[str, np.ndarray]
    """int32[rows] each: `label` or `prompt_length`, as the task has it, and perhaps WEIGHT."""
    pad: int = 0
    """What fills the rows of a batch up. Masks hide it, so any id will do."""
    learnt: np.ndarray | None = None
    """bool[total]: which tokens are learnt, where these are not all from `prompt_length` on."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], pad: int = 0, /, **columns: np.ndarray) -> "Records":
        """Rows that were never in a file: each a sequence of token ids."""
        lengths = [len(row) for row in rows]
        flags = columns.pop(LEARNT, None)
        return cls(
            tokens=np.fromiter((token for row in rows for token in row), np.int32, sum(lengths)),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            columns=columns,
            learnt=None if flags is None else np.concatenate(flags).astype(bool),
            pad=pad,
        )

    @property
    def lengths(self) -> np.ndarray:
        """int64[rows]: the number of tokens in each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def weighted(self, weights: np.ndarray) -> "Records":
        """The same rows, each of which counts as these float32 [rows] say."""
        return dataclasses.replace(self, columns={**self.columns, WEIGHT: weights})

    def checksum(self) -> int:
        """Of all rows and columns, to tell whether two processes hold the same."""
        arrays = [self.tokens, self.offsets, *(self.columns[name] for name in sorted(self.columns))]
        arrays += [] if self.learnt is None else [self.learnt]
        return functools.reduce(lambda sum_, array: zlib.crc32(array.tobytes(), sum_), arrays, 0)

    @functools.cached_property
    def target_counts(self) -> np.ndarray:
        """int64[rows]: how many tokens of each row are learnt; never its first one."""
        if self.learnt is None:
            return self.lengths - np.maximum(self.columns["prompt_length"], 1)
        return np.add.reduceat(self.learnt, self.offsets[:-1], dtype=np.int64)

    @functools.cached_property
    def targets_at(self) -> np.ndarray:
        """int64: where in `tokens` those are that are learnt, where `learnt` says so."""
        assert self.learnt is not None
        return np.flatnonzero(self.learnt)

    @functools.cached_property
    def targets_before(self) -> np.ndarray:
        """int64[rows]: how many of `targets_at` come before each row's."""
        return np.cumsum(self.target_counts) - self.target_counts

    def learnt_in(self, index: int) -> np.ndarray:
        """bool[length]: which tokens of one row are learnt."""
        if self.learnt is not None:
            return self.learnt[self.offsets[index] : self.offsets[index + 1]]
        return np.arange(self.lengths[index]) >= self.columns["prompt_length"][index]

    def row(self, index: int) -> np.ndarray:
        """int32[length]: the tokens of one row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def read_records(
    directory: Path, metadata: Metadata, split: str, most: int | None = None
) -> Records:
    """Reads a split of a prepared data set, after checking each file's sha256.

    Of a split with more rows than `most` only the beginning is read, at least so many of them.

    Raises:
        UserError: there is no such split, a file is missing, changed or damaged, or a row holds
            what it cannot.
    """
    if split not in metadata.splits:
        raise UserError(f"{directory} has no {split} split")
    found = metadata.splits[split]
    parts: list[dict[str, np.ndarray]] = []
    count = 0
    for entry in found["files"]:
        file = directory / entry["name"]
        if not file.is_file():
            raise UserError(f"{file} is missing: {prepare_command(metadata.task)}")
        if sha256_of(file) != entry["sha256"]:
            raise UserError(f"{file} was changed or damaged: {prepare_command(metadata.task)}")
        for part in read_file(file, metadata):
            parts.append(part)
            count += len(part["length"])
            if most is not None and count >= most:
                break
    if count != found["examples"] and (most is None or count < most):
        raise UserError(
            f"{file} does not hold the {found['examples']} examples that metadata.json states:"
            f" {prepare_command(metadata.task)}"
        )
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Records(
        tokens=arrays["tokens"],
        offsets=np.concatenate([[0], np.cumsum(arrays["length"])]).astype(np.int64),
        columns={name: arrays[name] for name in metadata.columns if name != LEARNT},
        learnt=arrays.get(LEARNT),
        pad=metadata.pad_token_id,
    )


def read_file(file: Path, metadata: Metadata) -> Iterator[dict[str, np.ndarray]]:
    """The examples of one file, in pieces of READ_BATCH.

    Yields:
        `length` int64[rows], `tokens` int32[sum of length] and the task's columns, int32[rows];
        of these LEARNT is bool[sum of length].

    Raises:
        UserError: the file is damaged or holds impossible values.
    """
    features = {
        name: tf.io.FixedLenFeature([metadata.seq_len] if name in OF_TOKENS else [], tf.int64)
        for name in ("token_ids", "length", *metadata.columns)
    }
    records = tf.data.TFRecordDataset(str(file), compression_type="GZIP").batch(READ_BATCH)
    parsed = records.map(lambda rows: tf.io.parse_example(rows, features))
    try:
        for number, batch in enumerate(parsed):
            arrays = {name: value.numpy() for name, value in batch.items()}
            check_values(arrays, metadata, f"{file} is damaged", number * READ_BATCH)
            length = arrays["length"]
            real = np.arange(metadata.seq_len) < length[:, np.newaxis]
            columns = {
                name: arrays[name][real] == 1 if name == LEARNT else arrays[name].astype(np.int32)
                for name in metadata.columns
            }
            tokens = arrays["token_ids"][real].astype(np.int32)
            yield {"tokens": tokens, "length": length, **columns}
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise UserError(
            f"{file} is damaged ({reason}): {prepare_command(metadata.task)}"
        ) from error


def check_values(
    arrays: dict[str, np.ndarray], metadata: Metadata, what: str, rows_before: int
) -> None:
    """Checks values as the file holds them, int64, where none is yet cut to fit int32.

    Args:
        arrays: `token_ids` [rows, seq_len], `length` and the task's columns [rows].
        metadata: of the data set.
        what: the beginning of the message.
        rows_before: how many rows of the file come before these.

    Raises:
        UserError: a value is one that preparation never writes; names its row.
    """
    length = arrays["length"]
    most: dict[str, int | np.ndarray] = {"length": metadata.seq_len}
    least = {"length": 1, "prompt_length": 1, "label": 0}
    if "prompt_length" in metadata.columns:
        most["prompt_length"] = length - 1  # at least one token is learnt
    if "label" in metadata.columns:
        most["label"] = len(metadata.label_names or []) - 1
    for name, highest in most.items():
        outside = (arrays[name] < least[name]) | (arrays[name] > highest)
        if outside.any():
            row = int(outside.argmax())
            limit = int(np.broadcast_to(highest, outside.shape)[row])
            raise UserError(
                f"{what}: row {rows_before + row + 1} has the {name} {arrays[name][row]}, outside"
                f" {least[name]}..{limit}: {prepare_command(metadata.task)}"
            )
    if LEARNT in metadata.columns:
        learnt, place = arrays[LEARNT], np.arange(metadata.seq_len)
        wrong = (learnt != 0) & ((learnt != 1) | (place >= length[:, np.newaxis]))
        first = np.where(learnt.any(axis=1), learnt.argmax(axis=1), 0)
        wrong_rows = wrong.any(axis=1) | (first != arrays["prompt_length"])
        if wrong_rows.any():
            row = rows_before + int(wrong_rows.argmax()) + 1
            raise UserError(
                f"{what}: row {row} says of tokens that it has not that they are learnt, or not"
                f" from prompt_length on: {prepare_command(metadata.task)}"
            )
    ids, last = arrays["token_ids"], metadata.tokenizer.vocabulary - 1
    if ids.min() < 0 or ids.max() > last:
        row, place = np.argwhere((ids < 0) | (ids > last))[0]
        raise UserError(
            f"{what}: row {rows_before + row + 1} has the token id {ids[row, place]}, outside"
            f" 0..{last}: {prepare_command(metadata.task)}"
        )

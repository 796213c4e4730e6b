"""Prepared data sets as training reads them: checked, and in memory without their padding.

Masks are never stored: they follow from each example's `length`.
"""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt2_tuning.config import END_OF_TEXT
from gpt2_tuning.data.metadata import Metadata, prepare_command
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import sha256_of

READ_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples of one split in memory, without their padding."""

    tokens: np.ndarray
    """int32[total]: the real tokens of all rows, end to end."""
    offsets: np.ndarray
    """int64[rows + 1]: row i is tokens[offsets[i]:offsets[i + 1]]."""
    columns: dict[str, np.ndarray]
    """int32[rows] each: `label` or `prompt_length`, as the task has it."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], **columns: np.ndarray) -> "Records":
        """Rows that were never in a file: each a sequence of token ids."""
        lengths = [len(row) for row in rows]
        return cls(
            tokens=np.fromiter((token for row in rows for token in row), np.int32, sum(lengths)),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            columns=columns,
        )

    @property
    def lengths(self) -> np.ndarray:
        """int64[rows]: the number of tokens in each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def checksum(self) -> int:
        """Of all rows and columns, to tell whether two processes hold the same."""
        arrays = [self.tokens, self.offsets, *(self.columns[name] for name in sorted(self.columns))]
        return functools.reduce(lambda sum_, array: zlib.crc32(array.tobytes(), sum_), arrays, 0)

    def row(self, index: int) -> np.ndarray:
        """int32[length]: the tokens of one row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def read_records(directory: Path, metadata: Metadata, split: str) -> Records:
    """Reads a split of a prepared data set, after checking each file's sha256.

    Raises:
        UserError: there is no such split, or a file is missing, changed or damaged.
    """
    if split not in metadata.splits:
        raise UserError(f"{directory} has no {split} split")
    found = metadata.splits[split]
    parts = []
    for entry in found["files"]:
        file = directory / entry["name"]
        if not file.is_file():
            raise UserError(f"{file} is missing: {prepare_command(metadata.task)}")
        if sha256_of(file) != entry["sha256"]:
            raise UserError(f"{file} was changed or damaged: {prepare_command(metadata.task)}")
        parts.extend(read_file(file, metadata))
    if sum(len(part["length"]) for part in parts) != found["examples"]:
        raise UserError(
            f"{file} does not hold the {found['examples']} examples that metadata.json states:"
            f" {prepare_command(metadata.task)}"
        )
    lengths = np.concatenate([part["length"] for part in parts])
    return Records(
        tokens=np.concatenate([part["tokens"] for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        columns={name: np.concatenate([part[name] for part in parts]) for name in metadata.columns},
    )


def read_file(file: Path, metadata: Metadata) -> list[dict[str, np.ndarray]]:
    """The examples of one file, in pieces.

    Each piece has `length` int64[rows], `tokens` int32[sum of length] and the task's columns,
    int32[rows]. Raises UserError when the file is damaged or holds impossible values.
    """
    single = tf.io.FixedLenFeature([], tf.int64)
    features = {
        "token_ids": tf.io.FixedLenFeature([metadata.seq_len], tf.int64),
        **dict.fromkeys(["length", *metadata.columns], single),
    }
    records = tf.data.TFRecordDataset(str(file), compression_type="GZIP").batch(READ_BATCH)
    parts = []
    try:
        for batch in records.map(lambda rows: tf.io.parse_example(rows, features)):
            arrays = {name: value.numpy() for name, value in batch.items()}
            ids, length = arrays["token_ids"], arrays["length"]
            if length.min() < 1 or length.max() > metadata.seq_len:
                raise UserError(f"{file} is damaged: a length is outside 1..{metadata.seq_len}")
            tokens = ids[np.arange(metadata.seq_len) < length[:, np.newaxis]]
            if tokens.min() < 0 or tokens.max() > END_OF_TEXT:
                raise UserError(f"{file} is damaged: a token id is outside 0..{END_OF_TEXT}")
            columns = {name: arrays[name].astype(np.int32) for name in metadata.columns}
            parts.append({"tokens": tokens.astype(np.int32), "length": length, **columns})
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise UserError(
            f"{file} is damaged ({reason}): {prepare_command(metadata.task)}"
        ) from error
    return parts

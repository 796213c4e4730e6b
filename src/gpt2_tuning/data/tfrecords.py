"""Prepared data sets: a directory of TFRecords and the metadata.json that says what they hold.

A directory without metadata.json is not a data set, and it appears whole or not at all. Masks are
never stored: they follow from each example's `length`.
"""

import dataclasses
import functools
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import Progress

from gpt2_tuning.config import END_OF_TEXT
from gpt2_tuning.data.examples import Dropped, Example
from gpt2_tuning.data.metadata import METADATA_FILE, Metadata, is_dataset, prepare_command
from gpt2_tuning.data.report import NO_TEXT, SplitTally
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, sha256_of

# The lowest level: the files grow by a tenth and are written in half the time.
Rows = Iterable[Example | Dropped | None]
"""Examples in order, with Dropped, or None where it holds no text, for a row that gives none."""

GZIP = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
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


def check_output_dir(directory: Path) -> None:
    """Raises UserError unless a data set may be put there; call it before any work.

    It may where there is nothing, an empty directory, or an older data set of ours.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: give another --output_dir")
    if directory.is_dir() and any(directory.iterdir()) and not is_dataset(directory):
        raise UserError(
            f"{directory} holds files that are not a prepared data set: give another --output_dir"
        )
    parent = directory.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {parent}: give another --output_dir")


def write_dataset(directory: Path, header: Metadata, examples: Mapping[str, Rows]) -> Metadata:
    """Writes a data set, which takes the place of an older one only once it is whole.

    Args:
        directory: where it goes; see `check_output_dir`.
        header: all but what is found in the examples. Its `splits` say what is known of each
            split beforehand: `rows`, which only serves the progress bar, and `origin`.
        examples: for each split its rows, which are read once and not kept.

    Returns:
        The header completed, as metadata.json has it.

    Raises:
        UserError: the directory may not be used, or no row of a split is left.
        OSError: the disk is full or cannot be written to.
    """
    check_output_dir(directory)
    splits: dict[str, dict[str, Any]] = {}
    earlier: set[bytes] = set()
    with atomic_directory(directory.resolve()) as partial:
        for split, rows in examples.items():
            tally = SplitTally(earlier)
            file = partial / f"{split}.tfrecord.gz"
            known = header.splits[split]
            write_records(file, rows, header, tally, f"preparing {split}", known["rows"])
            if not tally.seen:
                raise UserError(nothing_left(split, tally.dropped_reasons))
            earlier |= tally.seen
            files = [{"name": file.name, "sha256": sha256_of(file)}]
            splits[split] = {**known, "files": files, **tally.summary(header.label_names)}
        metadata = dataclasses.replace(header, splits=splits)
        (partial / METADATA_FILE).write_text(metadata.to_json(), encoding="utf-8")
    return metadata


def nothing_left(split: str, reasons: Mapping[str, int]) -> str:
    """What to say of a split of which every row was dropped."""
    if set(reasons) <= {NO_TEXT}:
        return f"no row of {split} holds any text: nothing to prepare"
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"no row of {split} is left (dropped: {counts}): nothing to prepare"


def write_records(
    file: Path,
    examples: Rows,
    header: Metadata,
    tally: SplitTally,
    title: str,
    total: int,
) -> None:
    """Writes and counts the examples of one split, showing progress where somebody watches."""
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        with progress, tf.io.TFRecordWriter(str(file), GZIP) as writer:
            for example in progress.track(examples, total=total, description=title):
                tally.add(example)
                if isinstance(example, Example):
                    writer.write(serialized(example, header.seq_len, header.columns))
    except tf.errors.OpError as error:
        raise OSError(
            f"cannot write {file.name} in {file.parent.parent}: {error.message}"
        ) from error


def serialized(example: Example, seq_len: int, columns: Sequence[str]) -> bytes:
    """One example as the bytes of a tf.train.Example, always the same for the same example.

    Raises:
        ValueError: it does not fit seq_len, or has other extras than `columns`: a defect.
    """
    length = len(example.token_ids)
    if not 1 <= length <= seq_len or sorted(example.extras) != sorted(columns):
        raise ValueError(f"{length} tokens, extras {dict(example.extras)}: not a row of this set")
    message = tf.train.Example()
    feature = message.features.feature
    token_ids = feature["token_ids"].int64_list.value
    token_ids.extend(example.token_ids)
    token_ids.extend([END_OF_TEXT] * (seq_len - length))
    feature["length"].int64_list.value.append(length)
    for name, value in example.extras.items():
        feature[name].int64_list.value.append(value)
    return message.SerializeToString(deterministic=True)


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

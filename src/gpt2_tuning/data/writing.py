"""Prepared data sets as they are written: a directory of TFRecords and metadata.json.

A directory without metadata.json, which says what they hold, is not a data set, and it appears
whole or not at all.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from gpt2_tuning.data.examples import Dropped, Example
from gpt2_tuning.data.metadata import Metadata, foreign_in_dataset
from gpt2_tuning.data.report import NO_TEXT, SplitTally
from gpt2_tuning.data.wire import serialized
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, check_place, sha256_of
from gpt2_tuning.progress_bar import ProgressBar

Examples = Iterable[Example | Dropped | None]
"""Examples in order, with Dropped, or None where it holds no text, for a row that gives none."""

BATCH = 1000
"""Rows that are in memory at the same time."""


def check_output_dir(directory: Path) -> None:
    """Raises UserError unless a data set may be put there; call it before any work.

    It may where there is nothing, an empty directory, or an older data set of ours.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: give another --output_dir")
    if directory.is_dir() and (foreign := foreign_in_dataset(directory)):
        raise UserError(
            f"{directory} is not a prepared data set and nothing else, as it holds {foreign.name}: "
            "give another --output_dir"
        )
    check_place(directory.absolute().parent, "--output_dir")


def write_dataset(directory: Path, header: Metadata, examples: Mapping[str, Examples]) -> Metadata:
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
    with atomic_directory(directory, foreign_in_dataset) as partial:
        for split, rows in examples.items():
            tally = SplitTally(earlier, header.tokenizer)
            file = partial / f"{split}.tfrecord.gz"
            known = header.splits[split]
            write_records(file, rows, header, tally, f"preparing {split}", known["rows"])
            if not tally.seen:
                raise UserError(nothing_left(split, tally.dropped_reasons))
            earlier |= tally.seen
            files = [{"name": file.name, "sha256": sha256_of(file)}]
            splits[split] = {**known, "files": files, **tally.summary(header.label_names)}
        metadata = dataclasses.replace(header, splits=splits)
        metadata.save(partial)
    return metadata


def nothing_left(split: str, reasons: Mapping[str, int]) -> str:
    """What to say of a split of which every row was dropped."""
    if set(reasons) <= {NO_TEXT}:
        return f"no row of {split} holds any text: nothing to prepare"
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"no row of {split} is left (dropped: {counts}): nothing to prepare"


def write_records(
    file: Path,
    examples: Examples,
    header: Metadata,
    tally: SplitTally,
    title: str,
    total: int,
) -> None:
    """Writes and counts the examples of one split, showing progress where somebody watches."""
    # Only now: whatever is wrong with flags or rows is said without waiting for TensorFlow.
    import tensorflow as tf

    # The lowest level: the files grow by a tenth and are written in half the time.
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    console = Console(stderr=True)
    progress = ProgressBar(console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(title, total=total)
    rest = iter(examples)
    try:
        with progress, tf.io.TFRecordWriter(str(file), options) as writer:
            while batch := list(itertools.islice(rest, BATCH)):
                kept = tally.add(batch)
                for record in serialized(kept, header.seq_len, header.columns, header.pad_token_id):
                    writer.write(record)
                progress.advance(task, len(batch))
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2]  # before it the place of a hidden file
        raise OSError(f"cannot write {file.name} in {file.parents[2]}: {reason}") from error

"""A run's log for TensorBoard, in which training and validation share the charts of a figure.

`train/` and `validation/` have the same names of figures. `result/` has what the run came to: its
flags as hyperparameters with the best figures, its pictures, its card and samples.
"""

import contextlib
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from gpt2_tuning.runs.run_files import BOARD, EVENTS_NAME, RESULT, TRAIN, VALIDATION


class Board:
    """The log of a run under way; to be closed."""

    def __init__(self, run_dir: Path):
        self.directory = run_dir / BOARD
        self.writers = {
            name: tf.summary.create_file_writer(str(self.directory / name))
            for name in (TRAIN, VALIDATION)
        }

    def log(self, part: str, update: int, figures: Mapping[str, float]) -> None:
        """Adds a point to the chart of each figure.

        Args:
            part: TRAIN or VALIDATION.
            update: updates that are done.
            figures: by the charts' names.

        Raises:
            OSError: the disk is full or cannot be written to.
        """
        with errors_in_a_line(), self.writers[part].as_default(step=update):
            for name, value in figures.items():
                tf.summary.scalar(name, value)

    def flush(self) -> None:
        """Writes what is logged so far: a checkpoint is to follow. Raises OSError as `log` does."""
        with errors_in_a_line():
            for writer in self.writers.values():
                writer.flush()

    def go_back(self, update: int, validated: int) -> None:
        """Takes away what a run that was killed had logged after the checkpoint it goes on from.

        Args:
            update: updates that are done at that checkpoint.
            validated: how many were done at the last validation.
        """
        for part, last in ((TRAIN, update), (VALIDATION, validated)):
            for file in event_files(self.directory / part):
                cut(file, last)

    def close(self) -> None:
        """Closes the files."""
        for writer in self.writers.values():
            writer.close()


def log_result(
    run_dir: Path,
    update: int,
    settings: Mapping[str, Any],
    figures: Mapping[str, float],
    texts: Mapping[str, str],
    pictures: Sequence[Path],
) -> None:
    """Logs what a finished run came to, in place of what is there of an earlier end.

    Args:
        run_dir: the run's directory.
        update: updates that were done.
        settings: the flags.
        figures: those of the weights that are kept.
        texts: Markdown, by what it is.
        pictures: PNG files.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    from tensorboard.plugins.hparams import api

    directory = run_dir / BOARD / RESULT
    for file in event_files(directory):
        file.unlink()
    plain = (bool, int, float, str)
    flags = {
        name: flag if isinstance(flag, plain) else str(flag) for name, flag in settings.items()
    }
    writer = tf.summary.create_file_writer(str(directory))
    with errors_in_a_line():
        with writer.as_default(step=update):
            api.hparams(flags)
            for name, value in figures.items():
                tf.summary.scalar(name, value)
            for name, text in texts.items():
                tf.summary.text(name, text)
            for path in pictures:
                image = tf.io.decode_png(path.read_bytes(), channels=4)
                tf.summary.image(path.stem, image[tf.newaxis])
        writer.close()


def event_files(directory: Path) -> list[Path]:
    """The logs in a directory; none of them is a link."""
    return [
        path
        for path in sorted(directory.glob("*"))
        if re.fullmatch(EVENTS_NAME, path.name) and path.is_file() and not path.is_symlink()
    ]


def cut(file: Path, last: int) -> None:
    """Ends a log before its first event after update `last`, or where it is no longer whole.

    An event is a record: uint64 length, uint32 checksum, content, uint32 checksum.
    """
    content, place = file.read_bytes(), 0
    with contextlib.suppress(struct.error, DecodeError):
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            end = place + 12 + length + 4
            event = tf.compat.v1.Event.FromString(content[place + 12 : end - 4])
            if end > len(content) or event.step > last:
                break
            place = end
    os.truncate(file, place)


@contextlib.contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Turns TensorFlow's error inside the block into one of the system's.

    Raises:
        OSError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0].rpartition("}} ")[2]
        raise OSError(f"cannot write TensorBoard's log: {reason}") from error

"""A checkpoint's files: their names, the sums that know a damaged one, and which of them stay."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.files import files_named, sha256_of, sync, write_text
from gpt2_tuning.runs.run_files import BEST_NAME, CHECKPOINT_NAME
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training.progress import Progress

KEPT = 2
ARRAYS_FILE = "variables.safetensors"
PROGRESS_FILE = "progress.json"
OWN_FILES = files_named(ARRAYS_FILE, PROGRESS_FILE)


class Damaged(ValueError):
    """A checkpoint that is not whole, or not as it was written; the message says in what."""


def sum_of(content: Mapping[str, Any]) -> str:
    """sha256 over plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signed(content: Mapping[str, Any]) -> str:
    """What a checkpoint's progress.json holds: plain values, and their sum."""
    return json.dumps({**content, "sha256": sum_of(content)})


def sum_of_file(path: Path) -> str | None:
    """The file's sha256; None where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def found_in(directory: Path) -> list[Path]:
    """The checkpoints there, oldest first."""
    return [path for path in named(directory, CHECKPOINT_NAME) if path.is_dir()]


def named(directory: Path, pattern: str) -> list[Path]:
    """What in a directory has exactly such a name and is no link, in the names' order."""
    return sorted(
        path
        for path in directory.glob("*")
        if re.fullmatch(pattern, path.name) and not path.is_symlink()
    )


def best_file(directory: Path, number: int | None) -> Path:
    """Where the weights of a validation go that is the best."""
    return directory / f"best-{number:04d}.safetensors"


def remove_older(newest: Path, kept: int = KEPT) -> None:
    """Removes what no longer counts once `newest` is written, up to `kept` of the checkpoints.

    That is also what lies after it, which a run that went back to an older checkpoint left.
    """
    directory = newest.parent
    staying = [path for path in found_in(directory) if path <= newest][-kept:]
    for path in found_in(directory):
        if path not in staying:
            remove_checkpoint(path)
    needed = set()
    for path in staying:
        with contextlib.suppress(Damaged):
            needed.add(progress_of(read_content(path)).best)
    for file in named(directory, BEST_NAME):
        if file not in {best_file(directory, number) for number in needed if number}:
            file.unlink()


def keep_end(directory: Path) -> None:
    """Leaves of a finished run's checkpoints the last progress and the best weights alone.

    A run that is finished is resumed with those. The progress says so before anything goes, so
    that what a kill leaves is no damaged checkpoint.
    """
    for newest in found_in(directory)[-1:]:
        with contextlib.suppress(Damaged):
            content = read_content(newest)
            if content["variables_sha256"] is not None:
                write_text(newest / PROGRESS_FILE, signed({**content, "variables_sha256": None}))
                sync(newest)
            (newest / ARRAYS_FILE).unlink(missing_ok=True)
            remove_older(newest, kept=1)


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint's two files, and its directory unless something else is in it."""
    for name in (PROGRESS_FILE, ARRAYS_FILE):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()


def read_content(path: Path) -> dict[str, Any]:
    """What a checkpoint's progress.json says. Raises Damaged when it is not as it was written."""
    try:
        content = read_json(path / PROGRESS_FILE)
    except (OSError, ValueError) as error:
        raise Damaged(f"{PROGRESS_FILE} is missing or damaged") from error
    if content.pop("sha256", None) != sum_of(content):
        raise Damaged(f"{PROGRESS_FILE} is damaged")
    return content


def progress_of(content: Mapping[str, Any]) -> Progress:
    """The progress that `read_content` found. Raises Damaged when it is of a later version."""
    try:
        return Progress.of(content["progress"])
    except TypeError as error:
        raise Damaged("another version of gpt2-tuning wrote it") from error

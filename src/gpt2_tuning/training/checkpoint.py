"""Checkpoints that a run continues from exactly: every variable that changes, and the progress.

What a checkpoint holds is summed up in it, so that a damaged one is known for what it is, and it
says which run it is of, so that no other run continues from it.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from safetensors import SafetensorError

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import (
    LEFTOVER_NAME,
    atomic_directory,
    atomic_file,
    files_named,
    remove_leftovers,
    sha256_of,
    sync,
    write_text,
)
from gpt2_tuning.runs.run_files import BEST_NAME, CHECKPOINT_NAME, refuse_link
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training.progress import Progress
from gpt2_tuning.training.variables import load_variables, save_variables

KEPT = 2
ARRAYS_FILE = "variables.safetensors"
PROGRESS_FILE = "progress.json"
UPDATES = "way of dividing examples into updates"
"""Of what a run is, what none of an earlier version names: it had another way."""
OWN_FILES = files_named(ARRAYS_FILE, PROGRESS_FILE)


class Damaged(ValueError):
    """A checkpoint that is not whole, or not as it was written; the message says in what."""


class Checkpoints:
    """The checkpoints of one run, and the best weights so far, which they refer to.

    Args:
        directory: holds step-*/ and best-*.safetensors.
        variables: what training changes.
        weights: those among them of which the best validation's are kept.
        run: what the run is, as plain values: flags, and sums over what is not among the
            variables. A checkpoint of a run that differs in any is refused.
        writes: False where another process of the same run writes them.
    """

    def __init__(
        self,
        directory: Path,
        variables: list[keras.Variable],
        weights: list[keras.Variable],
        run: Mapping[str, Any],
        writes: bool = True,
    ):
        self.directory, self.variables, self.weights = directory, variables, weights
        self.run, self.writes = json.loads(json.dumps(run)), writes

    def save(self, progress: Progress, done: int) -> Path:
        """Writes a checkpoint, whole or not at all, and removes all but the newest KEPT.

        Args:
            progress: where the run is.
            done: the steps that are done since the run's start.

        Raises:
            UserError: it cannot be written; the earlier ones are as they were.
        """
        target = self.path_of(done)
        if not self.writes:
            return target
        with self.writing(target), atomic_directory(target, OWN_FILES) as partial:
            save_variables(partial / ARRAYS_FILE, self.variables)
            content = {
                "run": self.run,
                "progress": dataclasses.asdict(progress),
                "variables_sha256": sha256_of(partial / ARRAYS_FILE),
            }
            (partial / PROGRESS_FILE).write_text(signed(content), encoding="utf-8", newline="\n")
            sync(partial)
        remove_older(target)
        return target

    def path_of(self, done: int) -> Path:
        """The checkpoint of a run in which so many steps are done."""
        return self.directory / f"step-{done:08d}"

    def save_best(self, progress: Progress) -> None:
        """Keeps the weights as they are now; `progress` has their number and is given their sum."""
        path = best_file(self.directory, progress.best)
        if not self.writes:
            progress.best_sha256 = None  # only the writer knows it
            return
        with self.writing(path), atomic_file(path) as partial:
            save_variables(partial, self.weights)
            sync(partial.parent)
            progress.best_sha256 = sha256_of(partial)

    def load_best(self, progress: Progress) -> None:
        """Sets the weights to the best validation's.

        Raises:
            UserError: their file is missing or damaged.
        """
        try:
            self.check_best(progress)
        except Damaged as error:
            raise UserError(f"{error}: start the run again with --overwrite") from error
        load_variables(best_file(self.directory, progress.best), self.weights)

    def restore(self) -> tuple[Progress, Path]:
        """Sets the variables as the newest checkpoint that is whole has them.

        Returns:
            Its progress, and the checkpoint. A damaged one is passed over, which is said.

        Raises:
            UserError: there is no checkpoint that can be used, or it is of another run.
        """
        reasons = []
        for path in reversed(checkpoints(self.directory)):
            try:
                progress = self.read(path)
            except Damaged as error:
                reasons.append(f"{path.name}: {error}")
                continue
            for reason in reasons:
                print(f"warning: going back to {path.name}, as {reason}", file=sys.stderr)
            return progress, path
        raise UserError(
            f"no checkpoint in {self.directory} can be used ({'; '.join(reasons) or 'none there'}):"
            " start the run again with --overwrite"
        )

    def read(self, path: Path) -> Progress:
        """Sets the variables from one checkpoint, all or none, and returns its progress.

        A finished run's may have none any more: see `keep_end`.

        Raises:
            Damaged: it, or the best weights it refers to, are not as they were written.
            UserError: it is of another run.
        """
        content = read_content(path)
        self.check_run(path, content["run"])
        known = content["variables_sha256"]
        if known is not None and sum_of_file(path / ARRAYS_FILE) != known:
            raise Damaged(f"{ARRAYS_FILE} is missing or damaged")
        progress = progress_of(content)
        if progress.best is not None:
            self.check_best(progress)
        if known is not None:
            load_variables(path / ARRAYS_FILE, self.variables)
        return progress

    def check_run(self, path: Path, found: Mapping[str, Any]) -> None:
        """Raises UserError, naming what differs, where a checkpoint is of another run."""
        for name in self.run:
            if name == UPDATES and name not in found:
                raise UserError(
                    f"{path} is of an earlier version, which divided the examples into other "
                    "updates: finish the run with that version, or start it again with --overwrite"
                )
            if found.get(name) != self.run[name]:
                values = f"{found.get(name)}, not {self.run[name]}"
                raise UserError(f"{path} is of another run: its {name} is {values}")

    def check_best(self, progress: Progress) -> None:
        """Raises Damaged where the best weights are not those that the progress refers to."""
        path = best_file(self.directory, progress.best)
        known = progress.best_sha256 or (None if self.writes else sum_of_file(path))
        if known is None or sum_of_file(path) != known:
            raise Damaged(f"the best weights, {path}, are missing or damaged")

    def remove_leftovers(self) -> None:
        """Removes what a killed run had begun to write.

        Raises:
            UserError: the directory is a link, behind which nothing is to be removed.
        """
        refuse_link(self.directory)
        if not self.writes:
            return
        for path in named(self.directory, rf"\.({CHECKPOINT_NAME}|{BEST_NAME})\.{LEFTOVER_NAME}"):
            target = path.name.removeprefix(".").rpartition(".")[0]
            remove_leftovers(self.directory / target)

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Says what could not be written, and what is left to go on from."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            whole = checkpoints(self.directory)
            rest = f"{whole[-1].name} is left to --resume from" if whole else "there is none yet"
            reason = error.__cause__ or error
            raise UserError(f"cannot write the checkpoint {path}: {reason}; {rest}") from error


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


def checkpoints(directory: Path) -> list[Path]:
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
    staying = [path for path in checkpoints(directory) if path <= newest][-kept:]
    for path in checkpoints(directory):
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
    for newest in checkpoints(directory)[-1:]:
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

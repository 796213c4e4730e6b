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
)
from gpt2_tuning.training.run_files import BEST_NAME, CHECKPOINT_NAME, refuse_link
from gpt2_tuning.training.variables import load_variables, save_variables

KEPT = 2
ARRAYS_FILE = "variables.safetensors"
PROGRESS_FILE = "progress.json"
OWN_FILES = files_named(ARRAYS_FILE, PROGRESS_FILE)


@dataclasses.dataclass
class Progress:
    """Where a run is, but for its variables. All of it goes into a checkpoint."""

    epoch: int = 0
    step: int = 0
    """Batches of this epoch that are done."""
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """What this epoch's batches have added up to."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """One row of figures for each finished epoch."""
    best_epoch: int | None = None
    """The epoch, counted from 1, whose weights did best on validation."""
    best_sha256: str | None = None
    """Of the file that holds those weights."""
    stopped: bool = False
    """Whether validation stopped improving for too long."""


class Damaged(ValueError):
    """A checkpoint that is not whole, or not as it was written; the message says in what."""


class Checkpoints:
    """The checkpoints of one run, and the best weights so far, which they refer to.

    Args:
        directory: holds step-*/ and best-*.safetensors.
        variables: what training changes.
        weights: those among them of which the best epoch's are kept.
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
        target = self.directory / f"step-{done:08d}"
        if not self.writes:
            return target
        with self.writing(target), atomic_directory(target, OWN_FILES) as partial:
            save_variables(partial / ARRAYS_FILE, self.variables)
            content = {
                "run": self.run,
                "progress": dataclasses.asdict(progress),
                "variables_sha256": sha256_of(partial / ARRAYS_FILE),
            }
            text = json.dumps({**content, "sha256": sum_of(content)})
            (partial / PROGRESS_FILE).write_text(text, encoding="utf-8", newline="\n")
            sync(partial)
        self.remove_older(target)
        return target

    def save_best(self, progress: Progress) -> None:
        """Keeps the weights as they are now; `progress` has their epoch and is given their sum."""
        path = self.best_file(progress.best_epoch)
        if not self.writes:
            progress.best_sha256 = None  # only the writer knows it
            return
        with self.writing(path), atomic_file(path) as partial:
            save_variables(partial, self.weights)
            sync(partial.parent)
            progress.best_sha256 = sha256_of(partial)

    def load_best(self, progress: Progress) -> None:
        """Sets the weights to the best epoch's.

        Raises:
            UserError: their file is missing or damaged.
        """
        try:
            self.check_best(progress)
        except Damaged as error:
            raise UserError(f"{error}: start the run again with --overwrite") from error
        load_variables(self.best_file(progress.best_epoch), self.weights)

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

        Raises:
            Damaged: it, or the best weights it refers to, are not as they were written.
            UserError: it is of another run.
        """
        content = read_content(path)
        self.check_run(path, content["run"])
        if sum_of_file(path / ARRAYS_FILE) != content["variables_sha256"]:
            raise Damaged(f"{ARRAYS_FILE} is missing or damaged")
        try:
            progress = Progress(**content["progress"])
        except TypeError as error:
            raise Damaged("another version of gpt2-tuning wrote it") from error
        if progress.best_epoch is not None:
            self.check_best(progress)
        load_variables(path / ARRAYS_FILE, self.variables)
        return progress

    def check_run(self, path: Path, found: Mapping[str, Any]) -> None:
        """Raises UserError, naming what differs, where a checkpoint is of another run."""
        for name in self.run:
            if found.get(name) != self.run[name]:
                values = f"{found.get(name)}, not {self.run[name]}"
                raise UserError(f"{path} is of another run: its {name} is {values}")

    def check_best(self, progress: Progress) -> None:
        """Raises Damaged where the best weights are not those that the progress refers to."""
        path = self.best_file(progress.best_epoch)
        known = progress.best_sha256 or (None if self.writes else sum_of_file(path))
        if known is None or sum_of_file(path) != known:
            raise Damaged(f"the best weights, {path}, are missing or damaged")

    def best_file(self, epoch: int | None) -> Path:
        """Where the weights of an epoch go that is the best."""
        return self.directory / f"best-{epoch:04d}.safetensors"

    def remove_older(self, newest: Path) -> None:
        """Removes what no longer counts once `newest` is written.

        That is also what lies after it, which a run that went back to an older checkpoint left.
        """
        kept = [path for path in checkpoints(self.directory) if path <= newest][-KEPT:]
        for path in checkpoints(self.directory):
            if path not in kept:
                remove_checkpoint(path)
        needed = set()
        for path in kept:
            with contextlib.suppress(Damaged):
                needed.add(read_content(path)["progress"]["best_epoch"])
        for file in named(self.directory, BEST_NAME):
            if file not in {self.best_file(epoch) for epoch in needed if epoch}:
                file.unlink()

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


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint's two files, and its directory unless something else is in it."""
    for name in (PROGRESS_FILE, ARRAYS_FILE):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()


def read_content(path: Path) -> dict[str, Any]:
    """What a checkpoint's progress.json says. Raises Damaged when it is not as it was written."""
    try:
        content = json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(f"{PROGRESS_FILE} is missing or damaged") from error
    if not isinstance(content, dict) or content.pop("sha256", None) != sum_of(content):
        raise Damaged(f"{PROGRESS_FILE} is damaged")
    return content

"""Checkpoints that a run continues from exactly: every variable that changes, and the progress.

What a checkpoint holds is summed up in it, so that a damaged one is known for what it is, and it
says which run it is of, so that no other run continues from it.
"""

import contextlib
import dataclasses
import json
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
    remove_leftovers,
    sha256_of,
    sync,
)
from gpt2_tuning.runs.run_files import BEST_NAME, CHECKPOINT_NAME, refuse_link
from gpt2_tuning.training.checkpoint_files import (
    ARRAYS_FILE,
    OWN_FILES,
    PROGRESS_FILE,
    Damaged,
    best_file,
    found_in,
    named,
    progress_of,
    read_content,
    remove_older,
    signed,
    sum_of_file,
)
from gpt2_tuning.training.progress import Progress
from gpt2_tuning.training.run_identity import UPDATES
from gpt2_tuning.training.variables import load_variables, save_variables


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
        for path in reversed(found_in(self.directory)):
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
            whole = found_in(self.directory)
            rest = f"{whole[-1].name} is left to --resume from" if whole else "there is none yet"
            reason = error.__cause__ or error
            raise UserError(f"cannot write the checkpoint {path}: {reason}; {rest}") from error

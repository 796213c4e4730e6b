"""Answers on their way into a file: they gather beside it, and take its place once all are there.

The gathering file's name ends in a digest of what decides on the answers, so an interrupted piece
of work is gone on with by the same work alone.
"""

import contextlib
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import BINARY, check_place
from gpt2_tuning.inference.answer_sinks import PartialFile, Printed, Sink, Stream
from gpt2_tuning.interrupts import Stopped
from gpt2_tuning.locks import lock_descriptor

PARTIAL = ".partial-"
DIGITS = 12
"""Of the digest, in a partial file's name."""
MOST_OF_LINE = 2**26
"""Bytes of an answer that is gone on with."""


# --- before the work -------------------------------------------------------------------------


def check_output(output: Path, source: Path, kept: Sequence[Path]) -> Path:
    """Where `--output` leads, once it is sure that answers may go there; writes nothing.

    Args:
        output: as the user gave it. Links are followed.
        source: the file of questions, which is never replaced, under whatever name.
        kept: directories in which no answers may lie.

    Returns:
        The path without links; of a device, a pipe or an open descriptor, `output` itself.

    Raises:
        UserError: answers may not go there, or cannot.
    """
    target = Path(os.path.realpath(output))
    if open_descriptor(output) is not None:
        return output
    for directory in kept:
        if target.is_relative_to(os.path.realpath(directory)):
            raise UserError(f"--output would lie among the files of {directory}: give another name")
    try:
        mode = output.stat().st_mode
    except FileNotFoundError:
        check_place(target.parent, "--output")
        return target
    except OSError as error:
        raise UserError(f"cannot write to --output {output}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"--output {output} is a directory: give it the name of a file")
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        # The path without links of a pipe behind /dev/stdout is none that could be opened.
        return output
    if not stat.S_ISREG(mode):
        raise UserError(f"--output {output} is neither a file nor a stream: give another name")
    if source.exists() and os.path.samefile(output, source):
        raise UserError("--output would overwrite --input: give it another name")
    if not os.access(target, os.W_OK):
        raise UserError(f"--output {output} is read-only: give it another name")
    check_place(target.parent, "--output")
    return target


def open_descriptor(output: Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout stands for, if it is one.

    It may lead to a file that others write to as well, as behind `>>`, which nothing may replace.
    """
    name = re.fullmatch(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]+)", str(output))
    if not name:
        return None
    return int(name[2]) if name[2] else {"stdout": 1, "stderr": 2}[name[1]]


@contextlib.contextmanager
def opened(
    target: Path | None, digest: str, resume: bool, total: int, rows_at_once: int
) -> Iterator[Sink]:
    """Yields where the lines go, having found out how many of them are there already.

    Args:
        target: from `check_output`; None is standard output.
        digest: hexadecimal, of all that decides on the lines.
        resume: whether to go on with those that an interrupted process left.
        total: how many lines there will be.
        rows_at_once: how many are appended together: of what was left, whole such parts count.

    Raises:
        UserError: another process writes there, what was left may not be gone on with or is in
            the way; in the block, with how many lines are done.
        Stopped: the block was interrupted; with how many lines are done.
    """
    if target is None:
        yield Printed()
        return
    if open_descriptor(target) is not None or (target.exists() and not target.is_file()):
        if resume:
            raise UserError(f"--resume needs a file as --output: {target} keeps no answers")
        with descriptor_of(target, os.O_WRONLY) as descriptor:
            yield Stream(descriptor, target)
        return
    partial = target.with_name(f"{target.name}{PARTIAL}{digest[:DIGITS]}")
    refuse_others(target, partial, resume)
    if os.path.lexists(partial) and (partial.is_symlink() or not partial.is_file()):
        raise UserError(f"{partial} is no file of answers: remove it, or give another --output")
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666
    with descriptor_of(partial, os.O_RDWR | os.O_CREAT, mode) as descriptor:
        lock(descriptor, partial)
        file = PartialFile(target, partial, descriptor, total, 0)
        file.done = kept_lines(file, resume, rows_at_once)
        try:
            with told_how_to_go_on(file):
                yield file
        finally:
            if not file.done and not file.finished:
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def descriptor_of(path: Path, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Opens a file, and makes the directories above it. Raises UserError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = open_descriptor(path)
        descriptor = os.open(path, flags | BINARY, mode) if number is None else os.dup(number)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def told_how_to_go_on(file: PartialFile) -> Iterator[None]:
    """Adds to what ends the block early how much is done, and how the rest can be."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}{file.rest()}") from error
    except Stopped as stop:
        raise Stopped(stop.code - 128, file.rest()) from None
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, file.rest()) from None


def lock(descriptor: int, partial: Path) -> None:
    """Keeps other processes from a partial file, where the file system has locks.

    Raises:
        UserError: another process has locked it, or has just moved it to its place.
    """
    try:
        lock_descriptor(descriptor, partial)
    except BlockingIOError as error:
        raise UserError(
            f"another process is writing {partial}: wait for it, or give another --output"
        ) from error
    except OSError:  # no locks here
        return


def refuse_others(target: Path, partial: Path, resume: bool) -> None:
    """Raises UserError where other work on the same file is under way, or is what is left."""
    name = re.compile(re.escape(target.name + PARTIAL) + f"[0-9a-f]{{{DIGITS}}}")
    try:
        found = [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:  # the directory is not there yet
        return
    others = [path for path in found if path != partial]
    for path in others:
        with contextlib.suppress(OSError), path.open("rb") as file:
            lock(file.fileno(), path)
    if resume and others and partial not in found:
        raise UserError(
            f"--resume: {others[0]} was begun with other flags, another input or another run: "
            "give the same, or leave --resume out"
        )


def kept_lines(file: PartialFile, resume: bool, rows_at_once: int) -> int:
    """How many lines of a partial file stay; it is cut after them.

    Raises:
        UserError: there are some, and `resume` is not set.
    """
    ends = [0]
    with file.partial.open("rb") as lines:
        for line in iter(lambda: lines.readline(MOST_OF_LINE), b""):
            # A kill cuts the last line short, a power failure may leave zeros.
            if not is_answer(line) or len(ends) > file.total:
                break
            ends.append(ends[-1] + len(line))
    count = len(ends) - 1
    kept = count if count == file.total else count - count % rows_at_once
    if kept and not resume:
        raise UserError(
            f"{file.partial} holds {kept:,} answers of an interrupted run: --resume goes on from "
            "them; to start again, remove it"
        )
    if resume:
        begun = f"going on after {kept:,} of {file.total:,} rows"
        nothing = "nothing was left to resume from: starting from the beginning"
        print(f"note: {begun if kept else nothing}", file=sys.stderr)
    os.ftruncate(file.descriptor, ends[kept])
    os.lseek(file.descriptor, 0, os.SEEK_END)
    return kept


def is_answer(line: bytes) -> bool:
    """Whether a line is an answer, and all of it."""
    try:
        return line.endswith(b"}\n") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False

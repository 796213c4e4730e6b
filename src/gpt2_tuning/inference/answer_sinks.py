"""Where answers go, line by line: standard output, a pipe, or a file that gathers its lines."""

import contextlib
import dataclasses
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import let_go


class Sink(Protocol):
    """Where lines go, in order."""

    done: int
    """Lines that are there already."""

    def append(self, lines: Sequence[str]) -> None:
        """Adds lines. Raises UserError where they cannot be written."""

    def finish(self) -> None:
        """To be called after the last line."""


class Printed:
    """Lines on standard output."""

    done = 0

    def append(self, lines: Sequence[str]) -> None:
        """Prints them at once."""
        print("\n".join(map(encodable, lines)), flush=True)
        self.done += len(lines)

    def finish(self) -> None:
        """There is nothing to do."""


def encodable(line: str) -> str:
    """A line of JSON, with JSON's escapes where standard output has not all of its characters."""
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(line))
    return line


class Stream:
    """Lines into a device or a pipe, which nothing can take the place of."""

    def __init__(self, descriptor: int, path: Path):
        self.descriptor, self.path, self.done = descriptor, path, 0

    def append(self, lines: Sequence[str]) -> None:
        """As Sink's."""
        write_all(self.descriptor, lines, f"to {self.path}")
        self.done += len(lines)

    def finish(self) -> None:
        """Says how many there were; not on standard output, which the stream may be."""
        print(f"{self.path}: {self.done:,} rows answered", file=sys.stderr)


@dataclasses.dataclass
class PartialFile:
    """Lines that gather in `partial` until they are all there."""

    target: Path
    partial: Path
    descriptor: int
    total: int
    done: int
    finished: bool = False

    def append(self, lines: Sequence[str]) -> None:
        """As Sink's."""
        write_all(self.descriptor, lines, str(self.partial))
        self.done += len(lines)

    def finish(self) -> None:
        """Moves the lines to their place, with the permissions of the file that was there."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(self.partial, stat.S_IMODE(self.target.stat().st_mode))
            os.fsync(self.descriptor)
            let_go(self.descriptor)
            os.replace(self.partial, self.target)
        except OSError as error:
            raise UserError(f"cannot write {self.target}: {error.strerror}") from error
        self.finished = True
        print(f"{self.target}: {self.done:,} rows answered")

    def rest(self) -> str:
        """What to say of the answers so far when the work ends before its time."""
        if self.finished or not self.done:
            return ""
        count = f"{self.done:,} of {self.total:,} rows are answered"
        return f": {count}; the same flags and --resume go on from there"


def write_all(descriptor: int, lines: Sequence[str], where: str) -> None:
    """Writes lines at once, without a buffer that could hold some back.

    Raises:
        UserError: they cannot be written; it says `where`.
    """
    rest = memoryview("".join(line + "\n" for line in lines).encode("utf-8"))
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise UserError(f"cannot write {where}: {error.strerror}") from error

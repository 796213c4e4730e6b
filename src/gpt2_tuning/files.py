"""Files that are either whole or not there: written beside their place, then renamed into it.

Only what this library wrote is ever removed: a directory goes when every name in it is one that we
write, and what we began and left is known by a mark inside, not by its name alone.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError

from gpt2_tuning.errors import UserError
from gpt2_tuning.locks import in_use, lock

Tree = Mapping[str, "Tree | None"]
"""What a directory of ours may hold: regular expressions of names, with None for a file and a tree
for a directory."""
Foreign = Callable[[Path], Path | None]
"""The first thing in a directory that must not be removed with it, None where there is nothing."""

WORKPLACE = "gpt2-tuning"
"""In the name of the hidden directory where something is written: `.model.gpt2-tuning-abcd1234`."""
MARK, NEW, OLD = "gpt2-tuning-partial", "new", "old"
"""What such a workplace holds: a file that says whose it is, the directory that is being written,
and the one that it replaces."""
UNMARKED_SECONDS = 60
"""Age from which a workplace without its mark is one that a killed process left."""
WINDOWS = os.name == "nt"
BINARY = getattr(os, "O_BINARY", 0)
"""For `os.open`: else Windows writes line ends of its own."""
LEFTOVER_NAME = rf"{WORKPLACE}-[a-z0-9_]{{8}}"


@contextlib.contextmanager
def atomic_directory(directory: Path, foreign: Foreign) -> Iterator[Path]:
    """Yields an empty directory that takes the place of `directory` when the block succeeds.

    What was at `directory` stays until then, and for good when the block fails or is interrupted.
    Of a link the directory behind it is replaced. What a process that was killed left of such a
    directory is removed.

    Args:
        directory: new, or one that may be replaced.
        foreign: looks for what must not be removed; asked before the block, and again of what is
            about to go, since the block may take long.

    Raises:
        UserError: there is something foreign.
        OSError: the parent cannot be written to, or the disk is full.
    """
    directory = Path(os.path.realpath(directory))
    if directory.exists():
        refuse_foreign(directory, directory, foreign)
    with workplace_beside(directory) as workplace:
        yield workplace / NEW
        swap_in(workplace, directory, foreign)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a path, not there yet, whose file takes the place of `path` when the block succeeds.

    Raises:
        OSError: the directory cannot be written to, or the disk is full.
    """
    with workplace_beside(path) as workplace:
        yield workplace / NEW / path.name
        os.replace(workplace / NEW / path.name, path)


@contextlib.contextmanager
def workplace_beside(target: Path) -> Iterator[Path]:
    """A hidden directory beside `target` with an empty directory NEW in it, removed at the end.

    Others know it by its mark, and by its lock that it is in use; what processes that were killed
    left of such ones is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    prefix = f".{target.name}.{WORKPLACE}-"
    workplace = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        with naming(target), in_use(workplace):
            (workplace / MARK).touch()
            (workplace / NEW).mkdir()
            yield workplace
    finally:
        clear(workplace)


@contextlib.contextmanager
def naming(target: Path) -> Iterator[None]:
    """Names in the block's OSError what was to be written, where the error names no file."""
    try:
        yield
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(f"cannot write {target}: {error}") from error
    except OSError as error:
        if error.strerror and not error.filename:  # of a write, which does not know the file's name
            raise OSError(f"cannot write {target}: {error.strerror}") from error
        raise


def swap_in(workplace: Path, directory: Path, foreign: Foreign) -> None:
    """Renames what was written to `directory`; what was there comes back when that fails."""
    new, old = workplace / NEW, workplace / OLD
    if not directory.exists():
        os.rename(new, directory)
        return
    os.rename(directory, old)
    try:
        refuse_foreign(old, directory, foreign)
        os.rename(new, directory)
    except BaseException:
        os.rename(old, directory)
        raise


def refuse_foreign(place: Path, directory: Path, foreign: Foreign) -> None:
    """Raises UserError for what in `place`, which is known as `directory`, must not be removed."""
    if not place.is_dir():
        raise UserError(f"{directory} is a file: choose a directory")
    if found := foreign(place):
        raise UserError(
            f"{directory} holds {found.relative_to(place)}, which would be removed: "
            "choose another directory"
        )


def clear(workplace: Path) -> None:
    """Removes a workplace, its mark last; what was to be replaced and is not stays there."""
    new, old = workplace / NEW, workplace / OLD
    if new.exists() and old.exists():
        return
    for part in (new, old):
        shutil.rmtree(part, ignore_errors=True)
    (workplace / MARK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        workplace.rmdir()


def remove_leftovers(target: Path) -> None:
    """Removes the workplaces beside `target` of processes that were killed.

    An older directory that was about to be replaced goes back to its place if that is empty.
    """
    begun = re.compile(re.escape(f".{target.name}.") + LEFTOVER_NAME)
    for path in list(target.parent.iterdir()):
        if not begun.fullmatch(path.name) or not is_workplace(path):
            continue
        with contextlib.suppress(OSError):  # in use, or no lock can tell
            descriptor = lock(path)
            if (path / OLD).exists() and not target.exists():
                os.rename(path / OLD, target)
            clear(path)
            os.close(descriptor)


def is_workplace(path: Path) -> bool:
    """Whether a directory is one that `workplace_beside` made."""
    if not re.fullmatch(rf"\..+\.{LEFTOVER_NAME}", path.name):
        return False
    if path.is_symlink() or not path.is_dir():
        return False
    entries = list(path.iterdir())
    if not entries:  # killed before the mark was made, unless it is being made just now
        return time.time() - path.stat().st_mtime > UNMARKED_SECONDS
    names = {entry.name for entry in entries}
    return MARK in names <= {MARK, NEW, OLD} and not any(entry.is_symlink() for entry in entries)


def foreign_entry(directory: Path, own: Tree) -> Path | None:
    """The first thing below a directory that `own` does not name; a link is never ours."""
    for path in sorted(directory.iterdir()):
        if path.is_symlink():
            return path
        if is_workplace(path):
            continue
        known = named_in(own, path.name)
        if not known:
            return path
        if known[0] is None:
            if not path.is_file():
                return path
        elif not path.is_dir():
            return path
        elif found := foreign_entry(path, known[0]):
            return found
    return None


def named_in(own: Tree, name: str) -> list[Tree | None]:
    """What `own` says of a name: None of a file, the tree of a directory; empty if nothing."""
    return [inner for pattern, inner in own.items() if re.fullmatch(pattern, name)]


def files_named(*names: str) -> Foreign:
    """Finds whatever in a directory is not a file of one of these names."""
    own: Tree = dict.fromkeys(map(re.escape, names))
    return functools.partial(foreign_entry, own=own)


def check_place(path: Path, flag: str) -> None:
    """Raises UserError, naming the flag, where a file or directory cannot be made at `path`."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {nearest}: give another {flag}")


def check_kept(directory: Path, read: Iterable[Path]) -> None:
    """Raises UserError where a directory that is to be written is one of those that are read."""
    for place in read:
        if directory.exists() and place.exists() and directory.samefile(place):
            raise UserError(f"{directory} is read here and would be replaced: give another place")


def sync(directory: Path) -> None:
    """Waits until the disk holds a directory's files, which a power failure then leaves whole."""
    # Windows opens no directory so, and writes out only what is open for writing.
    paths = directory.iterdir() if WINDOWS else (*directory.iterdir(), directory)
    for path in paths:
        descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def let_go(descriptor: int) -> None:
    """On Windows, which moves no file that is open, the descriptor now leads nowhere."""
    if WINDOWS:
        with open(os.devnull, "rb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)


def write_text(path: Path, text: str) -> None:
    """Replaces a small text file in one step; a link itself, not what it leads to.

    Raises:
        OSError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """What `write_text` does, for a file that is no text."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def current_umask() -> int:
    """The process's umask; reading it needs setting it for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

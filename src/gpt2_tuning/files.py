"""Files that are either whole or not there: written beside their place, then renamed into it."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from gpt2_tuning.errors import UserError


@contextlib.contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Yields an empty directory that takes the place of `directory` when the block succeeds.

    What was at `directory` stays until then, and for good when the block fails or is interrupted.
    What a process that was killed left of such a directory is removed.

    Raises:
        OSError: the parent cannot be written to, or the disk is full.
    """
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        with in_use(partial):
            partial.chmod(0o777 & ~current_umask())
            yield partial
            swap_in(partial, directory)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(f"cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def swap_in(partial: Path, directory: Path) -> None:
    """Renames `partial` to `directory`; what was there comes back when that fails."""
    replaced = partial.with_name(partial.name + ".replaced")
    try:
        if directory.exists():
            os.replace(directory, replaced)
        os.replace(partial, directory)
    except BaseException:
        if replaced.exists() and not directory.exists():
            os.replace(replaced, directory)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Removes what `atomic_directory` began beside `directory` in processes that were killed.

    An older directory that was about to be replaced goes back to its place if that is empty.
    """
    begun = re.compile(re.escape(f".{directory.name}.") + r"[a-z0-9_]{8}(\.replaced)?")
    for path in list(directory.parent.iterdir()):
        if not begun.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # in use, or no lock can tell
            descriptor = lock(path)
            if path.suffix == ".replaced" and not directory.exists():
                os.replace(path, directory)
            else:
                shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)


@contextlib.contextmanager
def in_use(directory: Path) -> Iterator[None]:
    """Keeps other processes from using a directory, where the file system has locks.

    Raises:
        BlockingIOError: another process uses it.
    """
    descriptor = None
    try:
        descriptor = lock(directory)
    except BlockingIOError:
        raise
    except OSError:
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock(directory: Path) -> int:
    """Locks a directory until the descriptor returned is closed or the process dies.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: it is not there, or the file system has no locks.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sync(directory: Path) -> None:
    """Waits until the disk holds a directory's files, which a power failure then leaves whole."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_foreign_files(directory: Path, own: set[str]) -> None:
    """Raises UserError where replacing `directory` would remove anything not named in `own`."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: choose a directory")
    foreign = sorted(path.name for path in directory.glob("*") if path.name not in own)
    if foreign:
        raise UserError(
            f"{directory} holds {foreign[0]}, which would be removed: choose another directory"
        )


def write_text(path: Path, text: str) -> None:
    """Replaces a small text file in one step."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
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

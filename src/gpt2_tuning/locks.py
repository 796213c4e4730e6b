"""Locks that keep other processes away, and end with the process that holds them.

Windows has none of this kind: there everything works as on a file system without locks.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def in_use(directory: Path) -> Iterator[bool]:
    """Keeps other processes from using a directory; yields whether the file system has locks.

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
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock(directory: Path) -> int:
    """Locks a directory until the descriptor returned is closed or the process dies.

    Raises:
        BlockingIOError: another process has locked it, or has just put another one in its place.
        OSError: it is not there, or the file system has no locks.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        lock_descriptor(descriptor, directory)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock_descriptor(descriptor: int, path: Path) -> None:
    """Locks what is open as `descriptor`, which was opened by its path.

    Raises:
        BlockingIOError: another process has locked it, or the path is by now another's.
        OSError: the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise BlockingIOError(f"{path} was replaced")

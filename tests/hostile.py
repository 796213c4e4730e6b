"""File systems that are full, or without locks."""

import contextlib
import errno
import os
import resource


@contextlib.contextmanager
def room_for(size):
    """Lets files have so many bytes inside the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_locks(descriptor, operation):
    """In place of fcntl.flock: as some network and Drive mounts answer it."""
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

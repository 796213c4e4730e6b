"""Disks that are full: inside a block, no file of this process can grow beyond a size."""

import contextlib
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

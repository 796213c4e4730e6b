"""File systems that are full, or without locks, processes that are killed, and what never ends."""

import contextlib
import errno
import os
import resource
import signal

import pytest


@contextlib.contextmanager
def room_for(size):
    """Lets files have so many bytes inside the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def within(seconds):
    """Fails the test inside the block where it takes longer."""

    def too_long(number, frame):
        pytest.fail(f"not done after {seconds} seconds")  # which no `except Exception` takes

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def no_locks(descriptor, operation):
    """In place of fcntl.flock: as some network and Drive mounts answer it."""
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


class Executioner:
    """An audit hook that ends the process before its `place`-th operation on a file of a run."""

    EVENTS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"})

    def __init__(self, place, run_dir):
        self.left, self.run_dir = place, str(run_dir)

    def __call__(self, event, arguments):
        if event in self.EVENTS and str(arguments[0]).startswith(self.run_dir):
            self.left -= 1
            if self.left < 0:
                os._exit(9)


def killed(action, after=lambda: None):
    """Runs an action in a process of its own; whether that was killed before its end."""
    child = os.fork()
    if not child:
        try:
            action()
            after()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

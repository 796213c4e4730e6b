"""Ctrl-C and SIGTERM: they end work at once, or a training run at its next step."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

CAUSES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal ended the work; the message is a line for the user.

    Like Ctrl-C's own exception it is no Exception, so nothing takes it for an ordinary failure.
    """

    def __init__(self, number: int, rest: str = ""):
        super().__init__(CAUSES[signal.Signals(number)] + rest)
        self.code = 128 + number
        """The process's exit code, as a shell has it for a process that the signal ended."""


Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextlib.contextmanager
def handling(handler: Handler, *numbers: int) -> Iterator[None]:
    """Handles signals so inside the block; those that the process was told to ignore stay ignored.

    Outside the main thread, where Python takes no handlers, it does nothing.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside the block SIGTERM raises Stopped, so that what was begun is cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with handling(stop, signal.SIGTERM):
        yield


class StopRequest:
    """Remembers a SIGTERM or Ctrl-C inside its `with` block, until somebody has time for it.

    A second Ctrl-C is not waited with: it raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that asked to stop."""
        self._installed = contextlib.ExitStack()

    def __enter__(self) -> "StopRequest":
        self.number = None
        self._installed.enter_context(handling(self._remember, signal.SIGINT, signal.SIGTERM))
        return self

    def __exit__(self, *exception: object) -> None:
        self._installed.close()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

"""Ctrl-C and SIGTERM: they end work at once, or a training run at its next step."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

CAUSES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
CTRL_C = 128 + signal.SIGINT
"""The exit code of a process that Ctrl-C ended, as a shell has it."""
GRACE = 2.0
"""Seconds that the main thread has to end by itself."""


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


def hook() -> None:
    """Ctrl-C that nobody catches, as in a script's imports, ends Python with a line and CTRL_C."""

    def say(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, place)
            return
        print(CAUSES[signal.SIGINT], file=sys.stderr)
        raise SystemExit(CTRL_C)

    sys.excepthook = say


@contextlib.contextmanager
def ended_by_thread(rest: str) -> Iterator[None]:
    """Inside the block a thread ends the process GRACE seconds after a signal of CAUSES.

    Python has its own handlers wait for the main thread; of the signal's coming it tells at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):  # empty once the writer is closed
            if number[0] in CAUSES and not left.wait(GRACE):
                stopped = Stopped(number[0], rest)
                print(stopped, file=sys.stderr, flush=True)
                os._exit(stopped.code)

    thread = threading.Thread(target=watch, daemon=True)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


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

    @contextlib.contextmanager
    def at_once(self, rest: str) -> Iterator[None]:
        """Inside the block a signal ends the work, or the process: there is nothing to save yet.

        It raises Stopped as soon as Python comes to it. While another library computes that is
        not soon: after GRACE seconds the process then ends as if it were killed, saying so.

        Args:
            rest: the end of the line for the user.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            raise Stopped(number, rest)

        with handling(stop, *CAUSES), ended_by_thread(rest):
            if self.number is not None:
                raise Stopped(self.number, rest)
            yield

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

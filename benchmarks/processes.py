"""The driver's side of a worker: starting its process, asking it, closing it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import OURS

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    # Several processes share a GPU, of which TensorFlow would take all memory at once.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
SIDES = {
    OURS: {"USE_TORCH": "0"},
    "hf": {"USE_TF": "0", "USE_TORCH": "1"},
    "kerashub": {"USE_TORCH": "0"},
}
"""Variables of each worker's environment, so that it imports its own framework alone."""
ENDING = 10.0
"""Seconds that a process whose output has ended is given to end."""
SLICE = 1.0
"""The most seconds waited at once: while the machine slept, or the driver was stopped, no more than
this has been waited."""


class NoAnswer(Exception):
    """A worker did not answer in time."""


class Ended(Exception):
    """A worker ended instead of answering; the message says why."""


class Process:
    """A worker that answers with lines of JSON, in a process group of its own.

    The group keeps Ctrl-C from it, which is for the driver alone, and lets `close` end with it
    whatever it has started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        # Not a pipe, which nobody reads while it runs.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self.popen = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            bufsize=0,
            start_new_session=True,
        )
        self.unread = b""

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next line of JSON; what else it prints is passed over.

        Raises:
            NoAnswer: there is none within so many seconds.
            Ended: there will be none.
        """
        left = seconds
        while True:
            while b"\n" in self.unread:
                line, self.unread = self.unread.split(b"\n", 1)
                if line.startswith(b"{"):
                    return json.loads(line)
            if left <= 0:
                raise NoAnswer
            output, start = self.popen.stdout, time.monotonic()
            assert output
            there = select.select([output], [], [], min(left, SLICE))[0]
            left -= min(time.monotonic() - start, SLICE)
            if not there:
                continue
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                raise Ended(self.last_words())
            self.unread += piece

    def ask(self, number: int, seconds: float) -> dict[str, Any]:
        """Has it measure a round; raises as `answer` does."""
        assert self.popen.stdin
        try:
            self.popen.stdin.write(f"{number}\n".encode())
        except BrokenPipeError:
            raise Ended(self.last_words()) from None
        return self.answer(seconds)

    def last_words(self) -> str:
        """The last line of its errors, or the signal that ended it."""
        try:
            code = self.popen.wait(ENDING)
        except subprocess.TimeoutExpired:
            code = 0
        if code < 0:
            return f"ended by signal {-code}"
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        return ([line.strip() for line in lines if line.strip()] or ["no answer"])[-1][:300]

    def close(self) -> None:
        """Ends it and all that it started, at once."""
        # Either error says that it has ended already; macOS has the second for that.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.errors):
            if stream:
                stream.close()


def launched(worker: str, python: str, spec: Mapping[str, Any]) -> Process:
    """The process of a worker that gets ready for what `spec` asks, as a common.Spec."""
    paths = [ROOT, ROOT / "src"] if worker == OURS else [ROOT]
    path = os.pathsep.join(map(str, paths))
    command = [python, "-m", f"benchmarks.{worker}", json.dumps({**spec, "launched": time.time()})]
    return Process(command, {**ENVIRONMENT, **SIDES[worker], "PYTHONPATH": path})


def interpreter(worker: str, peer_python: Path) -> str:
    """Our own for ours, the peers' for theirs."""
    return sys.executable if worker == OURS else str(peer_python.absolute())

"""Opens a page in which tuned models are talked to, beside what they were tuned from.

gpt2-tuning chat experiments/runs/instruction/my_run
"""

import dataclasses
import errno
import importlib
import os
import re
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import tyro

from gpt2_tuning import cli, extras
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import require

FIRST_PORT, PORTS = 7860, 100
"""Where a free port is looked for, and how many are tried."""
TAKEN = ("tuned", "base", "nothing")
"""What the page calls something else."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Opens a page to talk to tuned models beside their bases: chat RUN [RUN ...] [flags]."""

    FIRST: ClassVar[str] = "run_dir"
    """The flag that words before the first one are values of."""
    run_dir: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A finished run; what stands before the first flag is one too."""
    adapter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=DIR: an adapter of a run's base, to be chosen on the page by this name. DIR is in PEFT's
    format, or a run."""
    host: str = "127.0.0.1"
    """The address at which the page is: 0.0.0.0 lets in whoever reaches this machine."""
    port: int | None = None
    """Its port. Default: the first free one from 7860 on."""
    share: bool = False
    """Give it a public address too, by Gradio's servers, as in Colab: whoever has that may use the
    page."""

    def check(self) -> None:
        """Raises UserError when there is nothing to open, a name is taken or a value no port."""
        if not self.run_dir:
            raise UserError("no run is given: gpt2-tuning chat RUN (--help lists the flags)")
        require(self.port is None or 0 < self.port < 2**16, "port", "from 1 to 65535", self)
        self.adapters  # noqa: B018  # raises
        extras.check_installed("chat", "the chat page")

    @property
    def adapters(self) -> dict[str, Path]:
        """The adapters by their names. Raises UserError where one has none, or one of another."""
        found: dict[str, Path] = {}
        for given in self.adapter:
            name, equals, directory = given.partition("=")
            if not equals or not directory:
                raise UserError(f"--adapter must be NAME=DIR, not {given!r}")
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise UserError(
                    f"--adapter {given}: a name is of letters, digits, - and _, 64 at most"
                )
            if name in found or name in TAKEN:
                raise UserError(f"--adapter {given}: something else is called {name}")
            found[name] = Path(directory)
        return found


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(Options, chat, argv, f"{program or 'gpt2-tuning chat'} RUN [RUN ...]")


def chat(options: Options) -> None:
    """Loads the runs, serves the page and waits for Ctrl-C.

    Raises:
        UserError: a run or an adapter cannot be used, or the port is taken.
    """
    port = free_port(options.host, options.port)
    from gpt2_tuning.chat.opened import open_runs

    runs = open_runs(options.run_dir, options.adapters, texts_of)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from gpt2_tuning.chat.page import served

    with served(runs, options.host, port, options.share) as (local, public):
        for run in runs:
            for line in run.notes:
                print(f"note: {run.name}: {line}", file=sys.stderr)
        print(f"page: {local}  (Ctrl-C ends it)", flush=True)
        if public:
            print(f"public: {public}", flush=True)
        threading.Event().wait()


def texts_of(task: str) -> tuple[str, ...]:
    """What a task's `test` step calls the texts of an example.

    Raises:
        UserError: there is no such task, or it labels none.
    """
    try:
        options = importlib.import_module(f"gpt2_tuning.tasks.{task}.test").Options()
    except ModuleNotFoundError as error:
        raise UserError(f"there is no task {task}, of which the run would be") from error
    return tuple(options.texts())


def free_port(host: str, wanted: int | None) -> int:
    """The port that is wanted, or the first that is free.

    Raises:
        UserError: it is taken, or all are, or there is no such address here.
    """
    for port in [wanted] if wanted is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        try:
            with socket.create_server((host, port)):
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                said = error.strerror or str(error)
                raise UserError(f"the page cannot be at --host {host}: {said}") from error
    if wanted is not None:
        raise UserError(f"--port {wanted} is in use: give another, or none for the first free one")
    last = FIRST_PORT + PORTS - 1
    raise UserError(f"the ports from {FIRST_PORT} to {last} are all in use: give another --port")


if __name__ == "__main__":
    sys.exit(main())

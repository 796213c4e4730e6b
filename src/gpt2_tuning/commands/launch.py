"""Starts several workers of one training run on this machine, and ends them together.

    gpt2-tuning launch --workers 2 -- gpt2-tuning train classification ...
    python -m gpt2_tuning.commands.launch --workers 2 -- classification_tuning/train.py ...

What follows `--`, our own command or a script for Python, is run once a worker, with a TF_CONFIG
that names all of them. The chief, worker 0, speaks through this command; the others write to log
files.
"""

import ctypes
import dataclasses
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gpt2_tuning import cli, flags
from gpt2_tuning.cluster import VARIABLE, Cluster
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import DEVICES, require, require_whole
from gpt2_tuning.paths import PROGRAM

POLL_SECONDS = 0.1
FAILED = 1
STOPPED = (signal.SIGINT, signal.SIGTERM)
LEAVING_SECONDS = 20.0
"""Workers leave together: once one has ended, the others follow it or wait for it in vain."""
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
USAGE = "launch --workers 2 -- gpt2-tuning train TASK ..."


@dataclasses.dataclass(frozen=True)
class Options:
    """Starts workers of one training run on this machine: launch [flags] -- COMMAND [its flags]."""

    workers: int = 2
    """How many processes take part."""
    log_dir: Path | None = None
    """Where the workers but the first write what they say. Default: a directory that is removed
    when all goes well."""
    grace: float = 120.0
    """Seconds that workers have to stop after a signal: they end the step under way, all the same
    one, and save a checkpoint. Steps of 10 seconds and checkpoints of 10 GB fit in."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        require_whole("workers", 1, DEVICES, self)
        require(self.grace >= 0, "grace", "0 or more", self)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns its exit code: 0 when all workers succeeded."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--" not in argv and not {*flags.HELP} & {*argv}:
        argv = ["--"]  # which says how it is used
    split = argv.index("--") if "--" in argv else len(argv)
    action = functools.partial(launch, command=argv[split + 1 :])
    return cli.run(Options, action, argv[:split], program, tensorflow=False)


def launch(options: Options, command: Sequence[str]) -> int:
    """Runs the command once a worker and waits for all; returns the exit code.

    Raises:
        UserError: there is no such script, or a worker other than the chief refused its flags.
    """
    if not hasattr(os, "killpg"):
        raise UserError("launch ends its workers as a group, which Windows has not: use Linux")
    if not command:
        raise UserError(f"nothing to launch: {USAGE}")
    if command[0] == PROGRAM:
        command = ["-m", "gpt2_tuning", *command[1:]]
    if not command[0].startswith("-") and not Path(command[0]).is_file():
        raise UserError(f"no script {command[0]}: {USAGE}")
    if not any(part.split("=")[0] == "--strategy" for part in command):
        command = [*command, "--strategy", "multi_worker"]
    if options.log_dir:
        options.log_dir.mkdir(parents=True, exist_ok=True)
    log_dir = options.log_dir or Path(tempfile.mkdtemp(prefix="workers-"))
    with Workers(command, options.workers, log_dir, options.grace) as workers:
        code = workers.wait()
    if code == 0 and not options.log_dir:
        shutil.rmtree(log_dir)
    return code


class Workers:
    """The processes of a run; leaving the context ends those that are still there.

    Args:
        command: what Python is to run.
        count: how many workers.
        log_dir: holds worker-1.log and so on.
        grace: seconds between asking workers to end and killing them, while none has ended.
    """

    def __init__(self, command: Sequence[str], count: int, log_dir: Path, grace: float):
        self.command, self.count, self.log_dir, self.grace = command, count, log_dir, grace
        self.processes: list[subprocess.Popen] = []
        self.signal: int | None = None
        self.impatient = False
        """Whether there was another Ctrl-C."""

    def __enter__(self) -> "Workers":
        self.opened = ExitStack()
        self.opened.enter_context(self.listening())
        addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(self.count))
        for index in range(self.count):
            self.processes.append(self.start(Cluster(addresses, index)))
        return self

    def __exit__(self, *exception: object) -> None:
        self.end(signal.SIGTERM)
        self.opened.close()

    def start(self, cluster: Cluster) -> subprocess.Popen:
        """One worker, in a session of its own: Ctrl-C in the terminal reaches it through us."""
        output = None
        if cluster.index:
            log = self.log(cluster.index).open("wb")
            output = self.opened.enter_context(log)
        return subprocess.Popen(
            [sys.executable, *self.command],
            env={**os.environ, VARIABLE: cluster.as_json()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output and subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dying_with_parent(),
        )

    def log(self, index: int) -> Path:
        """Where a worker writes."""
        return self.log_dir / f"worker-{index}.log"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes Ctrl-C and SIGTERM for `wait`, instead of dying of them and leaving workers."""

        def note(number: int, _: object) -> None:
            self.impatient |= self.signal is not None and number == signal.SIGINT
            self.signal = self.signal or number

        kept = {number: signal.signal(number, note) for number in STOPPED}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def wait(self) -> int:
        """Waits for the chief to succeed, or for anything else; returns the exit code.

        Raises:
            UserError: a worker refused its flags or its input, which the chief did not.
        """
        while True:
            codes = [process.poll() for process in self.processes]
            failed = [index for index, code in enumerate(codes) if code]
            if self.signal is not None:
                self.end(self.signal)
                return interrupted(self.signal)
            if codes[0] == 0:
                self.until_ended(all, LEAVING_SECONDS)
                return 0
            if failed:
                return self.fail(failed[0])
            time.sleep(POLL_SECONDS)

    def fail(self, index: int) -> int:
        """Ends the others when one worker has failed, and says so; returns the exit code."""
        code = self.processes[index].returncode
        number = -code if code < 0 else code - 128
        if number in STOPPED:  # a signal came to that worker alone
            if code > 0:  # and all stop by it
                self.until_ended(all, LEAVING_SECONDS)
            self.end(number)
            return interrupted(number)
        if code == cli.USAGE_ERROR and index:
            self.until_ended(all, 2, self.processes[:1])  # the chief may say the same
        self.end(signal.SIGTERM)
        if code == cli.USAGE_ERROR and self.processes[0].returncode == code:
            return code  # the chief has told the user itself
        if code == cli.USAGE_ERROR:
            lines = self.log(index).read_text(errors="replace").splitlines()
            raise UserError(f"worker {index}: {lines[-1].removeprefix('error: ') if lines else ''}")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed ({code})"
        said = f", its output is {self.log(index)}" if index else ""
        print(
            f"error: worker {index} {how}{said}; the others were ended: --resume continues the run "
            "from its newest checkpoint",
            file=sys.stderr,
        )
        return FAILED

    def end(self, number: int) -> None:
        """Sends all workers a signal and, to those that stay too long, SIGKILL."""
        self.send(number)
        self.until_ended(any, self.grace)
        self.until_ended(all, min(self.grace, LEAVING_SECONDS))
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def send(self, number: int) -> None:
        """A signal to every worker that is still there, and to what it started."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, number)

    def until_ended(
        self,
        which: Callable[[Iterable[bool]], bool],
        seconds: float,
        processes: Sequence[subprocess.Popen] | None = None,
    ) -> None:
        """Waits until `any` or `all` of the processes have ended, but no longer than so long.

        A second Ctrl-C is not waited with.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.impatient:
            if which(process.poll() is not None for process in processes or self.processes):
                return
            time.sleep(POLL_SECONDS)


def interrupted(number: int) -> int:
    """Says that a signal has ended the run; returns the exit code."""
    print(f"interrupted by {signal.Signals(number).name}", file=sys.stderr)
    return 128 + number


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened at a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def dying_with_parent() -> Callable[[], None] | None:
    """What a new process does to be killed when this one is, where the system is Linux.

    Else workers would go on alone, and write beside the run that resumes theirs.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())

"""Spoils every file that is read, and flags, again and again: `make fuzz FUZZ='--minutes 5'`.

Mutants follow from --seed and their number. Each runs through a script's own `main` in a process
that stays, and must end well, with the content that it has without the mutation, or with exit code
2 and one line; without a traceback, without end or much memory, and with nothing written or removed
outside its output. One that does not is kept, with the command that runs it alone.
"""

import argparse
import collections
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
SRC = TESTS.parent / "src"
STAGES = ("prep", "test", "train")
SECONDS = 90.0
"""That a mutant may take, with the script's run on files that are not spoilt."""
MEGABYTES = 700.0
"""That a mutant may take of memory, above what the process had."""
MOST_MEGABYTES = 3500.0
"""Of a process, which is then replaced: TensorFlow keeps something of every model."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


def start(home: Path) -> None:
    """What every process does first: nothing it writes by the way lies in `home`."""
    place = home.parent
    os.environ |= ENVIRONMENT
    for name in ("HF_HOME", "XDG_CACHE_HOME", "TMPDIR", "MPLCONFIGDIR"):
        (place / name.lower()).mkdir(exist_ok=True)
        os.environ[name] = str(place / name.lower())
    for path in (TESTS, SRC):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115


def build(home: Path, stages: Sequence[str]) -> None:
    """Writes the files that are to be spoilt, as a process of its own."""
    start(home)
    os.chdir(home)
    log = os.open(home.parent / "build.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import fuzz_files

    fuzz_files.make_all("train" in stages)


def work(connection, home: Path, seed: int, stages: tuple[str, ...]) -> None:
    """The life of a worker."""
    start(home)
    os.dup2(os.open(home.parent / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    import fuzz_worker

    fuzz_worker.serve(connection, home, seed, stages)


class Worker:
    """A process that runs mutants, one at a time."""

    def __init__(self, place: Path, number: int, seed: int, stages: tuple[str, ...]):
        self.place, self.number, self.seed, self.stages = place, number, seed, stages
        self.mutant: int | None = None
        self.begun = 0.0
        self.begin()

    def begin(self) -> None:
        """Starts the process, with files of its own."""
        context = multiprocessing.get_context("spawn")
        self.own = self.place / f"worker-{self.number}"
        shutil.rmtree(self.own, ignore_errors=True)
        for name in ("home", "pristine"):
            shutil.copytree(self.place / "home", self.own / name)
        self.connection, other = context.Pipe()
        arguments = (other, self.own / "home", self.seed, self.stages)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.ready = False

    def give(self, mutant: int) -> None:
        """Has it run a mutant."""
        if not self.ready:  # the time of its start is no mutant's
            self.connection.recv()
            self.ready = True
        self.mutant, self.begun = mutant, time.monotonic()
        self.connection.send(mutant)

    def megabytes(self) -> float:
        """What the process has in memory."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0.0
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def read(self, name: str) -> str:
        """What it left in a file."""
        path = self.own / name
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Failure(NamedTuple):
    """A mutant that did not end as it must."""

    number: int
    words: str
    wrong: str
    said: str


def fuzz(options: argparse.Namespace, place: Path) -> int:
    """Runs the mutants; returns how many of them failed."""
    numbers = iter(options.only or range(options.first, options.first + options.mutants))
    deadline = time.monotonic() + 60 * options.minutes
    stages = tuple(options.stages)
    workers = [Worker(place, n, options.seed, stages) for n in range(options.workers)]
    counts: collections.Counter[str] = collections.Counter()
    failures: list[Failure] = []
    seconds: list[float] = []
    most = 0.0
    begin = 0.0
    busy = [worker for worker in workers if hand_out(worker, numbers, deadline)]
    while busy:
        wait([worker.connection for worker in busy], timeout=0.1)
        for worker in list(busy):
            found = result(worker)
            if found is None:
                continue
            begin = begin or time.monotonic()
            failure, outcome = found
            if outcome:
                counts["accepted" if outcome.code == 0 else "refused"] += 1
                counts[outcome.case.split(" ")[0]] += 1
                seconds.append(outcome.seconds)
                most = max(most, outcome.memory)
            if options.verbose and outcome:
                last = outcome.said.strip().splitlines()[-1:] or [""]
                print(
                    f"{outcome.number} {outcome.case}: {outcome.words[:100]!r}",
                    outcome.code,
                    f"{outcome.seconds:.1f} s {outcome.memory:.0f} MB",
                    last[0][:150],
                    flush=True,
                )
            if failure:
                failures.append(failure)
                keep(failure, options, worker.own / "spoilt")
            if worker.megabytes() > MOST_MEGABYTES or not outcome:
                worker.end()
                worker.begin()
            if not hand_out(worker, numbers, deadline):
                busy.remove(worker)
    for worker in workers:
        worker.end()
    report(counts, failures, seconds, most, time.monotonic() - (begin or time.monotonic()))
    return len(failures)


def hand_out(worker: Worker, numbers: Iterator[int], deadline: float) -> bool:
    """Gives a worker its next mutant; whether there was one."""
    number = next(numbers, None) if time.monotonic() < deadline else None
    if number is None:
        return False
    worker.give(number)
    return True


def result(worker: Worker):
    """How a worker's mutant ended, and whether it failed; None while it goes on."""
    number = worker.mutant or 0
    late = time.monotonic() - worker.begun > SECONDS
    if worker.connection.poll():
        try:
            outcome = types.SimpleNamespace(**worker.connection.recv())
        except EOFError:
            return failed(worker, "the process died"), None
        wrong = outcome.wrong
        if outcome.memory > MEGABYTES:
            wrong = wrong or f"{outcome.memory:.0f} MB of memory"
        words = f"{outcome.case}: {outcome.words}"
        return Failure(number, words, wrong, outcome.said) if wrong else None, outcome
    if worker.megabytes() > 2 * MOST_MEGABYTES:
        return failed(worker, f"{worker.megabytes():.0f} MB of memory"), None
    if late:
        return failed(worker, f"not done after {SECONDS:.0f} seconds"), None
    return None


def failed(worker: Worker, wrong: str) -> Failure:
    """A mutant that says nothing more."""
    return Failure(worker.mutant or 0, worker.read("words.txt"), wrong, worker.read("log.txt"))


def keep(failure: Failure, options: argparse.Namespace, spoilt: Path) -> None:
    """Says what failed and how to run it alone; keeps its files."""
    stages = f" --stages {' '.join(options.stages)}" if tuple(options.stages) != STAGES else ""
    command = f"make fuzz FUZZ='--seed {options.seed} --only {failure.number}{stages}'"
    print(f"{failure.wrong}: {failure.words[:200]}\n  {command}", flush=True)
    kept = options.keep / f"{options.seed}-{failure.number}"
    kept.mkdir(parents=True, exist_ok=True)
    if spoilt.exists():
        spoilt.replace(kept / "spoilt")
    (kept / "said.txt").write_text(
        f"{command}\n{failure.words}\n{failure.wrong}\n\n{failure.said}",
        encoding="utf-8",
        errors="backslashreplace",
    )


def report(counts, failures, seconds, most, total) -> None:
    """Says what was found."""
    done = counts["accepted"] + counts["refused"]
    print(
        f"{done} mutants in {total:.0f} s:"
        f" {counts['accepted']} accepted, {counts['refused']} refused, {len(failures)} wrong;"
        f" median {statistics.median(seconds or [0]):.2f} s, longest {max(seconds or [0]):.1f} s;"
        f" at most {most:.0f} MB more memory"
    )


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of all mutants")
    parser.add_argument("--mutants", type=int, default=1000, help="how many at most")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long at most")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--only", type=int, nargs="+", help="run mutants of these numbers alone")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--keep", type=Path, default=TESTS.parent / "fuzz-findings")
    parser.add_argument("--verbose", action="store_true", help="print every mutant")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 where a mutant failed."""
    options = parsed(argv)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        place = Path(name)
        (place / "home").mkdir()
        context = multiprocessing.get_context("spawn")
        builder = context.Process(target=build, args=(place / "home", tuple(options.stages)))
        begin = time.monotonic()
        builder.start()
        builder.join()
        if builder.exitcode:
            print((place / "build.txt").read_text(errors="replace")[-3000:], file=sys.stderr)
            return 1
        print(f"files are written in {time.monotonic() - begin:.0f} s", flush=True)
        return 1 if fuzz(options, place) else 0


if __name__ == "__main__":
    sys.exit(main())

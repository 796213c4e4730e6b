"""Stops preparation, training and testing again and again, and checks that nothing is lost.

`make chaos`. Each job runs once undisturbed and then, in directories of its own, as often as it
takes for so many of its processes to be stopped before they were done: killed (SIGKILL), by Ctrl-C,
or by a disk that is full. What is there in the end must be what the undisturbed job left, byte for
byte but for the figures that measure time and memory. Then several processes start the same
training at once, of which one must go on. Around every output directory lie files of a user's own,
which nothing may touch.

The processes are forked from one that has imported TensorFlow already, which saves most of their
start; what they run is the scripts' own `main`.
"""

import argparse
import dataclasses
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from chaos_content import (
    around,
    bytes_in,
    content,
    differences,
    partials,
    plant,
    variables_of,
)
from chaos_jobs import CARD, CODES, PLACES, SRC, TASKS, Job, Kill, jobs_of, make_base, run_script

PRELOADED = (
    "gpt2_tuning.data.preparation",
    "gpt2_tuning.data.sources",
    "gpt2_tuning.training.classifier",
    "gpt2_tuning.training.language_model",
)
TIMEOUT = 300


class Chaos:
    """Runs jobs below `home`, stops their processes, and keeps count."""

    def __init__(self, home: Path, seed: int, together: int):
        self.together = together
        self.home, self.random = home, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))
        self.log = home / "log.txt"
        self.plans = self.stops = self.in_checkpoints = self.cut_short = 0
        self.wrong: list[str] = []
        self.earlier: set[Path] = set()  # left by a process that was killed before

    def place(self, job: Job, round_name: str) -> Path:
        """A new place for a job's output, with files of a user's own around it."""
        output = self.home / round_name / job.name.replace(" ", "-")
        if round_name != "clean":
            output.parent.mkdir(parents=True)
            plant(output)
        return output

    def disturb(self, job: Job, stops: int) -> None:
        """Stops the job's processes so many times, in as many rounds as that takes."""
        clean = self.place(job, "clean")
        code, seconds = self.process(job, clean, None)
        if code:
            raise RuntimeError(f"{job.name} ended with {code}:\n{self.said()}")
        print(f"{job.name}: {seconds:.1f} s undisturbed", flush=True)
        expected, wanted, number = content(clean), self.stops + stops, 0
        while self.stops < wanted:
            number += 1
            output = self.place(job, f"{job.name}-{number}")
            if job.stage == "prep" and number % 2 == 0:  # there is an older data set to replace
                older = dataclasses.replace(job, flags=(*job.flags, "--limit", "20"))
                self.process(older, output, None)
            before = around(output)
            self.round(job, output, expected, wanted, seconds)
            self.compare(job, output, expected, before)
        if job.stage == "train" and self.together:
            self.start_together(job, expected)

    def round(
        self, job: Job, output: Path, expected: dict[str, object], wanted: int, seconds: float
    ) -> None:
        """Starts the job again and again until one process comes to its end."""
        code = None
        while code != 0:
            kill = self.plan(job, seconds) if self.stops < wanted else None
            code, lived = self.process(job, output, kill)
            if kill and code == CODES.get(kill.kind, -signal.SIGKILL) and self.in_one_line(kill):
                found = content(output)
                self.count(job, output, kill, lived, found == expected)
                if kill.kind == "removal":
                    self.compare_finished(job, output, expected, found)
            elif code != 0:
                self.wrong.append(f"{job.name} ended with {code}, {kill}: {self.said()}")
                return

    def compare_finished(
        self, job: Job, output: Path, expected: dict[str, object], found: dict[str, object]
    ) -> None:
        """Notes what differs, beside checkpoints, in a run that was killed as it removed some."""
        finished = tuple(name.removesuffix(CARD) for name in found if name.endswith(CARD))
        wrong = [name for name in differences(expected, found) if name.startswith(finished)]
        self.wrong += [
            f"{job.name}: {output}: {name} differs in a finished run"
            for name in wrong
            if "checkpoints" not in name
        ]

    def compare(
        self, job: Job, output: Path, expected: dict[str, object], before: dict[str, object]
    ) -> None:
        """Notes what differs from the undisturbed job's output, or of a user's own files."""
        wrong = [*differences(expected, content(output)), *differences(before, around(output))]
        self.wrong += [f"{job.name}: {output}: {name} differs" for name in wrong]
        print(f"{job.name}: done; " + (f"WRONG: {wrong}" if wrong else "identical"), flush=True)

    def start_together(self, job: Job, expected: dict[str, object]) -> None:
        """Starts several processes at once: one must go on, and the others must say why not."""
        output = self.place(job, f"{job.name}-together")
        before = around(output)
        logs = [self.home / f"log-{number}.txt" for number in range(self.together)]
        processes = [self.started(job, output, None, log) for log in logs]
        for process in processes:
            process.join(TIMEOUT)
        codes = sorted(str(process.exitcode) for process in processes)
        if codes != ["0", *["2"] * (self.together - 1)]:
            said = "\n".join(log.read_text(errors="replace") for log in logs)
            self.wrong.append(f"{job.name}, {self.together} at once, ended with {codes}: {said}")
        print(f"{job.name}: {self.together} at once ended with {', '.join(codes)}", flush=True)
        self.compare(job, output, expected, before)

    def plan(self, job: Job, seconds: float) -> Kill:
        """A moment to stop: the kinds in turn, the place at random."""
        self.plans += 1
        kind = job.kinds[self.plans % len(job.kinds)]
        if kind in ("time", "interrupt"):
            return Kill(kind, round(self.random.uniform(0.2, 0.9) * seconds, 2))
        if kind == "disk":
            clean = self.home / "clean" / job.name.replace(" ", "-")
            most = max(path.stat().st_size for path in clean.rglob("*") if path.is_file())
            # As often a small file that does not fit as a large one.
            return Kill(kind, round(most ** self.random.uniform(0.5, 1)) - 1)
        return Kill(kind, self.random.randint(1, PLACES.get(kind, {}).get(job.stage, 1)))

    def started(self, job: Job, output: Path, kill: Kill | None, log: Path) -> BaseProcess:
        """A process that runs a job's script."""
        arguments = (job, output, self.home, kill, log)
        process = self.context.Process(target=run_script, args=arguments)
        process.start()
        return process

    def process(self, job: Job, output: Path, kill: Kill | None) -> tuple[int | None, float]:
        """Runs a job's script once; returns its exit code, -9 where it was killed, and seconds."""
        begin, self.earlier = time.monotonic(), partials(output)
        process = self.started(job, output, kill, self.log)
        if kill and kill.kind in ("time", "interrupt"):
            process.join(kill.place)
            if kill.kind == "time":
                process.kill()
            elif process.exitcode is None and process.pid:
                os.kill(process.pid, signal.SIGINT)
        elif kill and kill.kind == "half":
            # Written in a few milliseconds: nothing but looking all the time would see it.
            while process.exitcode is None and not any(
                variables_of(partials(output) - self.earlier)
            ):
                pass
            process.kill()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
        return process.exitcode, time.monotonic() - begin

    def count(self, job: Job, output: Path, kill: Kill, lived: float, done: bool) -> None:
        """Counts and prints a stop; one of a process that had nothing left to do does not count."""
        if done:
            print(f"{job.name}: stopped after {lived:.1f} s, when all was done", flush=True)
            return
        self.stops += 1
        partial = partials(output) - self.earlier
        clean = self.home / "clean" / output.name
        # The variables are the weights, and two numbers of AdamW's for each of them.
        full = 3 * max(map(bytes_in, clean.glob("**/best-*")), default=0)
        cut = [size for size in variables_of(partial) if 0 < size < full]
        self.in_checkpoints += bool(partial)
        self.cut_short += bool(cut)
        where = self.said().rpartition("\n")[2] if kill.kind in PLACES else f"by {kill.kind}"
        where = where.replace(f"{output.parent}/", "").strip()
        if kill.kind == "disk":
            where = self.said().strip().rpartition("\n")[2].replace(f"{output.parent}/", "")
        if cut:
            where += f", {cut[0]:,} of {full:,} bytes written"
        elif partial:
            where += ", in a checkpoint's write"
        print(f"{job.name}: stop {self.stops} after {lived:.1f} s, {where}", flush=True)

    def in_one_line(self, kill: Kill) -> bool:
        """Whether a process that ended by itself said why in a line of its own."""
        said = self.said()
        line = said.strip().rpartition("\n")[2]
        return "Traceback" not in said and (kill.kind != "disk" or line.startswith("error: "))

    def said(self) -> str:
        """What the last process printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def chaos(
    tasks: Sequence[str],
    stops: dict[str, int],
    names: Sequence[str],
    together: int,
    seed: int,
    home: Path,
) -> int:
    """Disturbs the tasks' jobs; returns 0, or 1 where anything differs in the end."""
    os.environ |= {"PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "USE_TORCH": "0", "KERAS_BACKEND": "tensorflow"}
    started = time.monotonic()
    run = Chaos(home, seed, together)
    base = run.context.Process(target=make_base, args=(home,))
    base.start()
    base.join()
    for task in tasks:
        for job in jobs_of(task):
            if not names or job.name in names:
                run.disturb(job, stops[job.stage])
    print(
        f"{run.stops} stops in {time.monotonic() - started:.0f} s (seed {seed}), "
        f"{run.in_checkpoints} of them in a checkpoint's write, {run.cut_short} with its file cut "
        f"short: {len(run.wrong)} differences"
    )
    print("\n".join(run.wrong), file=sys.stderr)
    return 1 if run.wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--jobs", nargs="+", default=(), help="only these, such as 'text train'")
    parser.add_argument("--prep_stops", type=int, default=4, help="of each task's preparation")
    parser.add_argument("--train_stops", type=int, default=9, help="of each task's training")
    parser.add_argument("--test_stops", type=int, default=4, help="of each task's test")
    parser.add_argument("--together", type=int, default=3, help="trainings begun at once, or 0")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    stops = {stage: getattr(options, f"{stage}_stops") for stage in ("prep", "train", "test")}
    with tempfile.TemporaryDirectory(prefix="chaos-") as home:
        chosen = (options.tasks, stops, options.jobs, options.together, options.seed)
        return chaos(*chosen, Path(home))


if __name__ == "__main__":
    sys.exit(main())

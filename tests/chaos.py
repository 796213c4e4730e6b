"""Kills preparation and training again and again, and checks that nothing is lost: `make chaos`.

Each job runs once undisturbed and then, in directories of its own, as often as it takes for so many
of its processes to be killed (SIGKILL) before they were done. What is there in the end must be what
the undisturbed job left, byte for byte but for the figures that measure time and memory.

The processes are forked from one that has imported TensorFlow already, which saves most of their
start; what they run is the scripts' own `main`.
"""

import argparse
import csv
import dataclasses
import importlib
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
PRELOADED = (
    "gpt2_tuning.data.preparation",
    "gpt2_tuning.data.sources",
    "gpt2_tuning.training.classifier",
    "gpt2_tuning.training.language_model",
)
TASKS = ("classification", "entailment", "instruction")
PREPARE = ("--dataset", "sample", "--limit", "24", "--seq_len", "64")
TRAIN = ("--epochs", "2", "--batch_size", "4", "--checkpoint_steps", "2", "--learning_rate", "1e-2")
PLACES = {"operation": {"prep": 7, "train": 90}, "checkpoint": {"train": 24}}
"""The last file operation before which a process may be killed; see Kill."""
PARTIAL = "/.step-"
"""In the path of a checkpoint that is being written."""
TIMEOUT = 300


@dataclasses.dataclass(frozen=True)
class Job:
    """A script and its flags."""

    task: str
    stage: str
    flags: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of the kills, in turn; see Kill."""

    @property
    def name(self) -> str:
        return f"{self.task} {self.stage}"

    @property
    def script(self) -> str:
        return f"{self.task}_tuning.{'prep_dataset' if self.stage == 'prep' else 'train'}"


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a process dies.

    `operation` and `checkpoint`: before the `place`-th operation on a file in its output, or on
    one of a checkpoint that is being written. `half`: as soon as some of a checkpoint's variables
    are on disk. `time`: after `place` seconds.
    """

    kind: str
    place: float


# --- the process that is killed --------------------------------------------------------------


def run_script(job: Job, output: Path, kill: Kill | None, log: Path) -> None:
    """Runs a job in this process, which kills itself where `kill` names an operation."""
    descriptor = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(SRC)
    sys.path.insert(0, str(SRC))
    if kill and kill.kind in PLACES:
        own = (str(output), f"{output.parent}/.{output.name}.")
        sys.addaudithook(Executioner(kill, own, descriptor))
    # A run that has begun is resumed; one that has not is started, as a user would do it.
    resume = ["--resume"] if (output / "options.yaml").exists() else []
    code = importlib.import_module(job.script).main(
        [*job.flags, "--output_dir", str(output), *resume]
    )
    sys.stdout.flush()
    os._exit(code)


class Executioner:
    """An audit hook, which Python calls before it touches a file; it kills the process."""

    EVENTS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"})

    def __init__(self, kill: Kill, own: tuple[str, str], log: int):
        self.kill, self.own, self.log, self.count = kill, own, log, 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.EVENTS or isinstance(arguments[0], int):
            return
        path = os.fsdecode(arguments[0])  # type: ignore[arg-type]
        if not path.startswith(self.own) or (
            self.kill.kind == "checkpoint" and PARTIAL not in path
        ):
            return
        self.count += 1
        if self.count >= self.kill.place:
            os.write(self.log, f"\nbefore {event} {path}".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def make_base(directory: Path) -> None:
    """Writes a model for every run to start from: one layer, as wide as `tiny`.

    A narrower one is blind to changes in the order of additions, which a run must not have either.
    """
    import keras

    from gpt2_tuning.config import GPT2Config
    from gpt2_tuning.models.gpt2_model import GPT2Model

    keras.utils.set_random_seed(0)
    config = GPT2Config(n_layer=1, n_embd=128, n_head=2, n_positions=128)
    GPT2Model(config).built_now().save_pretrained(directory)


# --- what a job leaves -----------------------------------------------------------------------


def content(output: Path) -> dict[str, object]:
    """What must be the same: every file by its name, without times, places and what logs them."""
    found: dict[str, object] = {}
    beside = [path for path in output.parent.glob(".*") if path.name.startswith(f".{output.name}.")]
    for path in sorted([*output.rglob("*"), *beside]):
        name = str(path.relative_to(output.parent)).removeprefix(f"{output.name}/")
        if path.is_file() and "tensorboard/" not in name:
            found[name] = comparable(path, output)
    return found


def comparable(path: Path, output: Path) -> object:
    """A file's bytes, without what may differ; of a file that is damaged, all of them."""
    try:
        if path.name == "metrics.csv":
            return [unmeasured(row) for row in csv.DictReader(io.StringIO(path.read_text()))]
        if path.name == "progress.json":
            state = json.loads(path.read_text())
            progress = state["progress"]
            history = [unmeasured(row) for row in progress["history"]]
            progress |= {"history": history, "sums": unmeasured(progress["sums"])}
            return {name: value for name, value in state.items() if name != "sha256"}
        if path.name == "README.md":
            return path.read_text().replace(str(output), "")
    except (ValueError, KeyError):
        pass
    return path.read_bytes()


def unmeasured(row: dict) -> dict:
    """Figures that do not depend on the machine."""
    measured = ("seconds", "tokens_per_second", "peak_memory_mb")
    return {name: value for name, value in row.items() if name not in measured}


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """The names of the files in which two jobs' content differs."""
    return [name for name in expected | found if expected.get(name) != found.get(name)]


def partials(output: Path) -> set[Path]:
    """The directories in which checkpoints are being written, or were by a process that died."""
    return set(output.glob(f"checkpoints{PARTIAL}*"))


def variables_of(directories: set[Path]) -> list[int]:
    """How many bytes are there of the variables' files in checkpoints that are being written.

    safetensors gives a file of another name its full size, fills it, and renames it.
    """
    sizes = []
    for path in [file for directory in directories for file in directory.glob("*")]:
        try:
            if path.suffix != ".json":
                sizes.append(bytes_in(path))
        except OSError:
            continue
    return sizes


def bytes_in(path: Path) -> int:
    """What a file takes on disk, which is less than its size while that is being filled."""
    return path.stat().st_blocks * 512


# --- the one that kills ----------------------------------------------------------------------


class Chaos:
    """Runs jobs below `home`, kills their processes, and keeps count."""

    def __init__(self, home: Path, seed: int):
        self.home, self.random = home, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))
        self.log = home / "log.txt"
        self.kills = self.in_checkpoints = self.cut_short = 0
        self.wrong: list[str] = []
        self.earlier: set[Path] = set()  # left by a process that was killed before

    def disturb(self, job: Job, kills: int) -> None:
        """Kills the job's processes so many times, in as many rounds as that takes."""
        clean = self.home / "clean" / job.name.replace(" ", "-")
        code, seconds = self.process(job, clean, None)
        if code:
            raise RuntimeError(f"{job.name} ended with {code}:\n{self.said()}")
        print(f"{job.name}: {seconds:.1f} s undisturbed", flush=True)
        expected, wanted, number = content(clean), self.kills + kills, 0
        while self.kills < wanted:
            number += 1
            output = self.home / f"round-{number}" / clean.name
            if job.stage == "prep" and number % 2 == 0:  # there is an older data set to replace
                older = dataclasses.replace(job, flags=(*job.flags, "--limit", "20"))
                self.process(older, output, None)
            self.round(job, output, expected, wanted, seconds)

    def round(
        self, job: Job, output: Path, expected: dict[str, object], wanted: int, seconds: float
    ) -> None:
        """Starts the job again and again until one process comes to its end; then compares."""
        code = None
        while code != 0:
            kill = self.plan(job, seconds, wanted) if self.kills < wanted else None
            code, lived = self.process(job, output, kill)
            if kill and code == -signal.SIGKILL:
                self.count(job, output, kill, lived, content(output) == expected)
            elif code != 0:
                self.wrong.append(f"{job.name} ended with {code}: {self.said()}")
                return
        different = differences(expected, content(output))
        self.wrong += [f"{job.name}: {output}/{name} differs" for name in different]
        print(f"{job.name}: done; " + (f"WRONG: {different}" if different else "identical"))

    def plan(self, job: Job, seconds: float, wanted: int) -> Kill:
        """A moment to die: the kinds in turn, the first one last; the place at random."""
        kind = job.kinds[(wanted - self.kills) % len(job.kinds)]
        if kind == "time":
            return Kill(kind, round(self.random.uniform(0.2, 0.9) * seconds, 2))
        return Kill(kind, self.random.randint(1, PLACES.get(kind, {}).get(job.stage, 1)))

    def process(self, job: Job, output: Path, kill: Kill | None) -> tuple[int | None, float]:
        """Runs a job's script once; returns its exit code, -9 where it was killed, and seconds."""
        started, self.earlier = time.monotonic(), partials(output)
        process = self.context.Process(target=run_script, args=(job, output, kill, self.log))
        process.start()
        if kill and kill.kind == "time":
            process.join(kill.place)
            process.kill()
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
        return process.exitcode, time.monotonic() - started

    def count(self, job: Job, output: Path, kill: Kill, lived: float, done: bool) -> None:
        """Counts and prints a kill; one of a process that had nothing left to do does not count."""
        if done:
            print(f"{job.name}: killed after {lived:.1f} s, when all was done", flush=True)
            return
        self.kills += 1
        partial = partials(output) - self.earlier
        clean = self.home / "clean" / output.name / "checkpoints"
        full = max(map(bytes_in, clean.glob("*/variables.*")), default=0)
        cut = [size for size in variables_of(partial) if 0 < size < full]
        self.in_checkpoints += bool(partial)
        self.cut_short += bool(cut)
        where = self.said().rpartition("\n")[2] if kill.kind in PLACES else f"by {kill.kind}"
        where = where.replace(f"{output.parent}/", "").strip()
        if cut:
            where += f", {cut[0]:,} of {full:,} bytes written"
        elif partial:
            where += ", in a checkpoint's write"
        print(f"{job.name}: kill {self.kills} after {lived:.1f} s, {where}", flush=True)

    def said(self) -> str:
        """What the last process printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def jobs_of(task: str, home: Path) -> list[Job]:
    """A task's preparation, and the training on what the undisturbed one leaves."""
    data = str(home / "clean" / f"{task}-prep")
    flags = ("--dataset_dir", data, "--pretrained", str(home / "base"), *TRAIN)
    # A LoRA run's variables are too few for a process to be met while it writes them.
    kinds = ("checkpoint", "operation", "time", *(["half"] if task == "classification" else []))
    return [
        Job(task, "prep", PREPARE, ("operation", "time")),
        Job(task, "train", flags, kinds),
    ]


def chaos(tasks: Sequence[str], prep_kills: int, train_kills: int, seed: int, home: Path) -> int:
    """Disturbs the tasks' jobs; returns 0, or 1 where anything differs in the end."""
    os.environ |= {"PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "USE_TORCH": "0", "KERAS_BACKEND": "tensorflow"}
    started = time.monotonic()
    run = Chaos(home, seed)
    base = run.context.Process(target=make_base, args=(home / "base",))
    base.start()
    base.join()
    for task in tasks:
        for job in jobs_of(task, home):
            run.disturb(job, prep_kills if job.stage == "prep" else train_kills)
    print(
        f"{run.kills} kills in {time.monotonic() - started:.0f} s (seed {seed}), "
        f"{run.in_checkpoints} of them in a checkpoint's write, {run.cut_short} with its file cut "
        f"short: {len(run.wrong)} differences"
    )
    print("\n".join(run.wrong), file=sys.stderr)
    return 1 if run.wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--prep_kills", type=int, default=3, help="of each task's preparation")
    parser.add_argument("--train_kills", type=int, default=8, help="of each task's training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="chaos-") as home:
        return chaos(
            options.tasks, options.prep_kills, options.train_kills, options.seed, Path(home)
        )


if __name__ == "__main__":
    sys.exit(main())

"""What `make chaos` disturbs: the scripts with their flags, in a process that may die."""

import dataclasses
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
TASKS = ("classification", "entailment", "instruction", "text")
PREPARE = ("--dataset", "sample", "--limit", "24", "--seq_len", "64")
TRAIN = ("--batch_size", "4", "--checkpoint_steps", "2", "--learning_rate", "1e-2")
BY_EPOCHS = ("--epochs", "2")
BY_UPDATES = ("--validate_every", "4", "--max_updates", "10")
TRY = ("--input", "{home}/rows.jsonl", "--output", "{output}/answers.jsonl", "--batch_size", "1")
ROWS = 40
PLACES = {
    "operation": {"prep": 7, "train": 90, "test": 12},
    "checkpoint": {"train": 24},
    "removal": {"train": 12},
}
"""The last file operation before which a process may be killed; see Kill."""
CARD = "README.md"
"""What a run writes last, before it removes checkpoints."""
PARTIAL = "/.step-"
"""In the path of a checkpoint that is being written."""
CODES = {"interrupt": 130, "disk": 2}
"""A process's exit code by how it was stopped, where nothing killed it."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A script and its flags, in which {output} and {home} stand for directories."""

    name: str
    script: str
    flags: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of the kills, in turn; see Kill."""
    begun: str = ""
    """Matches what is in the output where the script is to go on, with --resume."""

    @property
    def stage(self) -> str:
        """`prep`, `train` or `test`."""
        return self.script.rpartition(".")[2].removesuffix("_dataset")


@dataclasses.dataclass(frozen=True)
class Kill:
    """When and how a process is stopped.

    `operation`, `checkpoint` and `removal`: killed before the `place`-th operation on a file in its
    output, or on one of a checkpoint that is being written, or on one of the checkpoints of a run
    that is finished. `half`: as soon as some of a checkpoint's
    variables are on disk. `time`: after `place` seconds. `interrupt`: Ctrl-C after `place` seconds.
    `disk`: no file can grow beyond `place` bytes.
    """

    kind: str
    place: float


def run_script(job: Job, output: Path, home: Path, kill: Kill | None, log: Path) -> None:
    """Runs a job in this process, which kills itself where `kill` names an operation."""
    descriptor = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    if kill and kill.kind == "disk":  # the log lies on another one
        through = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=descriptor)
        assert through.stdin
        descriptor = through.stdin.fileno()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(SRC)
    sys.path.insert(0, str(SRC))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if kill and kill.kind in PLACES:
        own = (str(output), f"{output.parent}/.{output.name}.")
        sys.addaudithook(Executioner(kill, own, descriptor))
    if kill and kill.kind == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(kill.place), int(kill.place)))
    # A run that has begun is resumed; one that has not is started, as a user would do it.
    resume = ["--resume"] if job.begun and list(output.glob(job.begun)) else []
    flags = [flag.format(output=output, home=home) for flag in job.flags]
    try:
        code = importlib.import_module(job.script).main([*flags, *resume])
    except KeyboardInterrupt:  # in the script's imports; a process that is not forked says it too
        print("interrupted", file=sys.stderr)
        code = CODES["interrupt"]
    sys.stdout.flush()
    os._exit(code)


class Executioner:
    """An audit hook, which Python calls before it touches a file; it kills the process."""

    EVENTS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"})

    def __init__(self, kill: Kill, own: tuple[str, str], log: int):
        self.kill, self.own, self.log, self.count = kill, own, log, 0
        self.finished = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in self.EVENTS or isinstance(arguments[0], int):
            return
        path = os.fsdecode(arguments[0])  # type: ignore[arg-type]
        if not path.startswith(self.own) or not self.counts(path):
            return
        self.count += 1
        if self.count >= self.kill.place:
            os.write(self.log, f"\nbefore {event} {path}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def counts(self, path: str) -> bool:
        """Whether operations on this path are counted by now."""
        if self.kill.kind == "checkpoint":
            return PARTIAL in path
        self.finished |= path.endswith(f"{CARD}.partial")
        return self.kill.kind == "operation" or (self.finished and "/checkpoints/" in path)


def make_base(home: Path) -> None:
    """Writes what every job starts from: rows to answer, and a model of one layer.

    It is as wide as `tiny`: a narrower one is blind to changes in the order of additions, which a
    run must not have either.
    """
    import keras

    from gpt2_tuning.families.gpt2 import GPT2Config
    from gpt2_tuning.models.gpt2_model import GPT2Model

    rows = [
        {
            "text": f"i feel number {number}",
            "premise": f"{number} cats sleep",
            "hypothesis": "an animal rests",
            "instruction": f"count to {number}",
            "prompt": f"there were {number}",
        }
        for number in range(ROWS)
    ]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keras.utils.set_random_seed(0)
    config = GPT2Config(n_layer=1, n_embd=128, n_head=2, n_positions=128)
    GPT2Model(config).built_now().save_pretrained(home / "base")


def jobs_of(task: str) -> list[Job]:
    """A task's preparation, training on what the undisturbed one leaves, and what tries that."""
    data = ("--dataset_dir", f"{{home}}/clean/{task}-prep", "--output_dir", "{output}")
    flags: tuple[str, ...] = (*data, "--pretrained", "{home}/base", *TRAIN)
    # A LoRA run's variables are too few for a process to be met while it writes them.
    kinds = ["checkpoint", "operation", "time", "interrupt", "disk", "removal"]
    if task in ("classification", "text"):
        kinds.append("half")
    flags = (*flags, *(BY_UPDATES if task == "entailment" else BY_EPOCHS))
    script = f"{task}_tuning.train"
    train = Job(f"{task} train", script, flags, tuple(kinds), "options.yaml")
    jobs = [
        Job(
            f"{task} prep",
            f"{task}_tuning.prep_dataset",
            (*PREPARE, "--output_dir", "{output}"),
            ("operation", "time", "interrupt", "disk"),
        ),
        train,
        Job(
            f"{task} test",
            f"{task}_tuning.test",
            ("--run_dir", f"{{home}}/clean/{task}-train", *TRY, *more_to_try(task)),
            ("operation", "time", "interrupt", "disk"),
            "*.partial-*",
        ),
    ]
    if task == "classification":
        jobs.append(
            dataclasses.replace(train, name=f"{task} seeds", flags=(*flags, "--seeds", "2"))
        )
    if task == "instruction":
        random = (*data, "--model_size", "tiny", "--pretrained", "none", *TRAIN, *BY_EPOCHS)
        jobs.append(dataclasses.replace(train, name=f"{task} random base", flags=random))
    return jobs


def more_to_try(task: str) -> tuple[str, ...]:
    """The flags of a language model's test.py beside those of all."""
    return () if task in ("classification", "entailment") else ("--max_new_tokens", "8")

"""What a user waits for in a run that is the first of its kind: `python -m benchmarks.first_run`.

Each run is the scripts' own, in processes of their own: preparation, training with nothing compiled
before (cold), and the same training once more (warm).
"""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import bases, common, machine
from benchmarks.processes import ENVIRONMENT, ROOT
from gpt2_tuning import cli
from gpt2_tuning.compiled_cache import ENTRIES
from gpt2_tuning.errors import UserError
from gpt2_tuning.runs.run_files import METRICS_FILE

COMPILED = re.compile(r"compiling the (\w+) step… ([\d.]+) s")
"""What training says of each step that it compiles; here no terminal can show a moving line."""
COLD, WARM = "cold", "warm"
FIGURES = {
    "seconds": "s, command to end",
    "first_steps_seconds": "s in first steps",
    "step_shapes": "shapes of a step",
    "compiled": "modules compiled",
    "padding": "padding",
}

TARGETS: dict[tuple[str, str], dict[str, float]] = {
    ("demo", COLD): {"seconds": 60},
    ("emotion", COLD): {"step_shapes": 4, "first_steps_seconds": 150, "padding": 0.1},
    ("emotion", WARM): {"first_steps_seconds": 15},
    ("rte", COLD): {"padding": 0.1},
    ("alpaca", COLD): {"padding": 0.1},
}
"""The most that a figure should be, on an H100; a line says which are above."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Times first runs from the command to the end, with nothing compiled before and again."""

    data: Path | None = None
    """A directory with emotion/train.jsonl, rte/train.tsv and alpaca/instruction_data.json; without
    it there is the demo alone."""
    runs: tuple[str, ...] = ("demo", "emotion", "rte", "alpaca")
    """Which runs: the demo's training, or an epoch of LoRA on the rows of one data set."""
    model_size: str = "124M"
    """Of the run on emotion, which is the one to look at; rte and alpaca are of size tiny, for the
    share of their padding."""
    limit: int | None = None
    """Take only this many rows of each data set."""
    timeout: int = 300
    """Seconds after which a script is given up."""
    work: Path = ROOT / "benchmarks" / "work" / "first_run"
    """Made anew: data, runs, and what is compiled. The figures are in its figures.json."""

    def check(self) -> None:
        """Raises UserError when a run is none, or its data is missing."""
        for name in self.runs:
            if name not in RUNS:
                raise UserError(f"--runs takes {', '.join(RUNS)}, not {name}")
        for file in (RUNS[name].file for name in self.runs if self.data):
            if self.data and file and not (self.data / file).is_file():
                raise UserError(f"--data has no {file}")
        if self.work.exists() and not (self.work / MARK).exists() and any(self.work.iterdir()):
            raise UserError(f"--work must be new, empty, or left by this command, not {self.work}")


MARK = "first_run"
"""A file of the working directory, which is removed only where this is in it."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A task's folder, the file of its rows and what its scripts are told."""

    task: str
    file: str | None = None
    train: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()


EPOCH = ("--epochs", "1", "--layout", "packed")
"""Packed on a CPU too, so that the share of padding is a GPU's."""
TINY = ("--model_size", "tiny", "--pretrained", "none", *EPOCH)
RUNS = {
    "demo": Run(
        "classification_tuning",
        train=("--config", str(ROOT / "experiments" / "classification_demo.yaml")),
        prepare=("--dataset", "sample"),
    ),
    "emotion": Run(
        "classification_tuning",
        "emotion/train.jsonl",
        train=("--lora_rank", "8", "--lora_alpha", "16", *EPOCH),
    ),
    "rte": Run(
        "entailment_tuning",
        "rte/train.tsv",
        train=TINY,
        prepare=("--premise_column", "sentence1", "--hypothesis_column", "sentence2"),
    ),
    "alpaca": Run("instruction_tuning", "alpaca/instruction_data.json", train=TINY),
}


def measure(options: Options) -> int:
    """Measures the runs one after another, prints a table and writes the figures."""
    console, found = Console(highlight=False, soft_wrap=True), []
    make_anew(options.work)
    described = machine.described(device())
    for name in options.runs:
        if RUNS[name].file and not options.data:
            console.print(f"{name}: left out, for want of --data")
            continue
        for figures in figures_of(name, options):
            found.append(figures)
            console.print(as_line(figures))
            content = {"machine": described, "runs": found}
            text = json.dumps(content, indent=1) + "\n"
            (options.work / "figures.json").write_text(text, encoding="utf-8")
    console.print(as_table(found))
    for line in above(found):
        console.print(line)
    return int(any("error" in figures for figures in found))


def make_anew(work: Path) -> None:
    """An empty working directory, by its mark known as one."""
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    (work / MARK).touch()


def above(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each figure that is above its target."""
    for figures in found:
        for name, most in TARGETS.get((figures["run"], figures["state"]), {}).items():
            value = figures[name]
            if value > most:
                line = f"{figures['run']} {figures['state']}: {FIGURES[name]}"
                yield f"above its target: {line} {as_cell(value)}, not {as_cell(most)}"


def figures_of(name: str, options: Options, flags: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A run's figures, cold and then warm, or why there are none; `flags` are for training."""
    run, place = RUNS[name], options.work / name
    prepare = [*run.prepare, "--output_dir", str(place / "data")]
    if run.file:
        assert options.data
        prepare += ["--train_file", str(options.data / run.file)]
        prepare += ["--limit", str(options.limit)] if options.limit else []
    train = [*run.train, *flags, "--dataset_dir", str(place / "data")]
    if name == "emotion":
        train += base_of(options)
    environment = {"XDG_CACHE_HOME": str(place / "cache")}
    try:
        script(run.task, "prep_dataset.py", prepare, environment, options.timeout)
        for state in (COLD, WARM):
            before, output = compiled(place), place / state
            arguments = [*train, "--output_dir", str(output)]
            start = time.perf_counter()
            said = script(run.task, "train.py", arguments, environment, options.timeout)
            figures = {
                "seconds": time.perf_counter() - start,
                "compiled": compiled(place) - before,
                **told(said),
                "padding": padding(output),
            }
            yield {"run": name, "state": state, **figures}
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines() or [str(error)]
        yield {"run": name, "state": "", "error": lines[-1][:300]}
    except subprocess.TimeoutExpired:
        yield {"run": name, "state": "", "error": f"longer than {options.timeout} s"}


def base_of(options: Options) -> list[str]:
    """The flags of a base: random weights of 124M, as if they had been downloaded, or none."""
    if options.model_size != "124M":
        return ["--model_size", options.model_size, "--pretrained", "none"]
    base = options.work / common.BASES[common.GPT2]
    bases.write_base(base, common.GPT2)
    return ["--pretrained", str(base)]


def script(
    task: str, name: str, arguments: list[str], environment: dict[str, str], timeout: int
) -> str:
    """What a task's script prints to standard output; raises subprocess's errors."""
    return subprocess.run(
        [sys.executable, f"{task}/{name}", *arguments],
        cwd=ROOT / "src",
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout,
    ).stdout


def compiled(place: Path) -> int:
    """How many modules XLA has compiled and TensorFlow has kept."""
    return sum(1 for _ in (place / "cache").glob(f"**/{ENTRIES}"))


def told(said: str) -> dict[str, float]:
    """How many shapes of a step training said it met, and how long the first of each took."""
    seconds = [float(found[2]) for found in COMPILED.finditer(said)]
    return {"step_shapes": len(seconds), "first_steps_seconds": sum(seconds)}


def padding(output: Path) -> float:
    """The share of padding in the run's last epoch."""
    with (output / METRICS_FILE).open(encoding="utf-8", newline="") as lines:
        return float(list(csv.DictReader(lines))[-1]["padding_share"])


def device() -> str:
    """The GPUs that TensorFlow sees, from a process that holds none of their memory afterwards."""
    code = "from benchmarks import ours; print('device', ours.about()['device'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("device ")]
    return lines[-1].removeprefix("device ") if lines else ""


def as_line(figures: dict[str, Any]) -> str:
    """A run as it is told when it is done."""
    name = f"{figures['run']} {figures['state']}".strip()
    return f"{name}: {figures.get('error') or format(figures['seconds'], '.1f') + ' s'}"


def as_table(found: Sequence[dict[str, Any]]) -> Table:
    """All runs, those that failed without figures."""
    table = Table("run")
    for title in FIGURES.values():
        table.add_column(title, justify="right")
    for figures in found:
        cells = [as_cell(figures[name]) for name in FIGURES if name in figures] or ["failed"]
        table.add_row(f"{figures['run']} {figures['state']}".strip(), *cells)
    return table


def as_cell(value: float) -> str:
    """A count as it is, another figure with three digits behind the point."""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv, tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())

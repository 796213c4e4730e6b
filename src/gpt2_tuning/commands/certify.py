"""Certifies that however a batch is spread over devices, processes and time, training is the same.

    gpt2-tuning certify

The same global batches are trained on one device, on logical devices, by several processes, with
gradient accumulation and packed into fewer rows; the weights they end with must agree.
"""

import dataclasses
import subprocess
import sys
import tempfile
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from gpt2_tuning import cli
from gpt2_tuning.commands.certify_run import MAX_GRAD_NORM, Kind, Task
from gpt2_tuning.errors import UserError

BOUND = 1e-5
MOVED = 10
"""Training must move some weight by this many times the bound, or agreement means nothing."""
WIDTH = 125
"""Characters that the table needs."""
RUN = ("-m", "gpt2_tuning.commands.certify_run")
"""What Python runs for a layout."""
AT_ONCE = 2
"""Layouts that are trained at the same time."""
FIGURES = {"train", "evaluate", "moved", "spread"}

Case = Literal[
    "2-devices", "4-devices", "2-workers", "2-parts", "4-parts", "packed", "packed-2-devices"
]
DEVICES = {"2-devices": 2, "4-devices": 4, "packed-2-devices": 2}
WORKERS = "2-workers"
PARTS = {"2-parts": 2, "4-parts": 4}
PACKED = ("packed", "packed-2-devices")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compares ways to train the same batches: the weights must agree to within 1e-5."""

    cases: tuple[Case, ...] = typing.get_args(Case)
    """What to compare with one device: logical devices, processes, gradient accumulation, several
    examples in a row."""
    tasks: tuple[Task, ...] = ("classification", "entailment", "instruction")
    """What is learnt."""
    kinds: tuple[Kind, ...] = ("lora", "full")
    """What is tuned."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far one way of training is from one device."""

    task: str
    kind: str
    case: str
    weights: float
    """The largest absolute difference between two weights, over all replicas and workers."""
    sums: float
    """The largest relative difference between two losses, hits, weight sums or norms."""
    moved: float
    """How far training moved a weight at most."""
    clipped: bool
    """Whether every step was clipped."""

    def faults(self) -> list[str]:
        """Why this certifies nothing; empty where the two agree and could have failed to."""
        found = {
            f"weights differ by {self.weights:.1e}": self.weights > BOUND,
            f"sums differ by {self.sums:.1e}": self.sums > BOUND,
            f"training moved no weight by more than {self.moved:.1e}": self.moved < MOVED * BOUND,
            "a step was not clipped": not self.clipped,
        }
        return [fault for fault, present in found.items() if present]


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the command; returns its exit code: 1 when something disagrees."""
    return cli.run(Options, certify, argv, program, tensorflow=False)


def certify(options: Options) -> int:
    """Trains every case, prints the table, and returns the exit code."""
    console = Console(highlight=False, width=max(Console().width, WIDTH))
    with tempfile.TemporaryDirectory(prefix="certify-") as name:
        directory = Path(name)
        # Most of the time goes into tracing, which keeps one core busy.
        with ThreadPoolExecutor(AT_ONCE) as pool, console.status("training"):
            running = [
                pool.submit(run_layout, options, directory / layout, flags)
                for layout, flags in layouts(options).items()
            ]
            for future in running:
                future.result()
        agreements = [
            compare(directory, task, kind, case)
            for task in options.tasks
            for kind in options.kinds
            for case in options.cases
        ]
    console.print(as_table(options, agreements))
    failed = [agreement for agreement in agreements if agreement.faults()]
    for one in failed:
        console.print(f"{one.task}, {one.kind}, {one.case}: {'; '.join(one.faults())}")
    sums = max(agreement.sums for agreement in agreements)
    console.print(f"Losses, hits, weights and norms differ by at most {sums:.1e}, relatively.")
    console.print(f"{len(agreements) - len(failed)} of {len(agreements)} agree to {BOUND:.0e}.")
    return 1 if failed else 0


def layouts(options: Options) -> dict[str, list[str]]:
    """The processes to start: what each is called, and the flags it has for certify_run."""
    wanted = [PARTS[case] for case in options.cases if case in PARTS]
    found = {"one": ["--accumulations", "1", *map(str, wanted)]}
    for case in options.cases:
        if case in PARTS:
            continue
        found[case] = ["--packed"] if case in PACKED else []
        if case in DEVICES:
            found[case] += ["--strategy", "mirrored", "--logical_devices", str(DEVICES[case])]
        elif case == WORKERS:
            found[case] += ["--strategy", "multi_worker"]
    return found


def run_layout(options: Options, output: Path, flags: list[str]) -> None:
    """Runs certify_run in processes of its own.

    Raises:
        UserError: it failed.
    """
    output.mkdir()
    workers = ("-m", "gpt2_tuning.commands.launch", "--workers", "2", "--")
    program = [*(workers if "multi_worker" in flags else ()), *RUN]
    wanted = ["--tasks", *options.tasks, "--kinds", *options.kinds]
    command = [sys.executable, *program, "--output", str(output), *flags, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise UserError(f"the layout {output.name!r} could not be trained")


def compare(directory: Path, task: str, kind: str, case: str) -> Agreement:
    """Reads what the case and the one device left, and takes the largest differences."""
    reference = load_file(directory / "one" / f"{task}-{kind}-1-0.safetensors")
    layout = "one" if case in PARTS else case
    pattern = f"{task}-{kind}-{PARTS.get(case, 1)}-*.safetensors"
    found = [load_file(path) for path in (directory / layout).glob(pattern)]
    assert len(found) == (2 if case == WORKERS else 1)
    weights, sums = [], []
    for arrays in found:
        assert arrays.keys() == reference.keys()
        weights.append(float(arrays["spread"][0]))
        for name in arrays.keys() - FIGURES:
            weights.append(float(np.abs(arrays[name] - reference[name]).max()))
        sums += [relative(arrays[name], reference[name]) for name in ("train", "evaluate")]
    return Agreement(
        task,
        kind,
        case,
        weights=float(np.max(weights)),
        sums=float(np.max(sums)),
        moved=float(reference["moved"][0]),
        clipped=bool((reference["train"][:, -1] > MAX_GRAD_NORM).all()),
    )


def relative(values: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to what is expected (absolute where that is below 1)."""
    return float((np.abs(values - expected) / np.maximum(np.abs(expected), 1)).max(initial=0.0))


def as_table(options: Options, agreements: Sequence[Agreement]) -> Table:
    """A row for each task and way of tuning, with the largest difference of a weight."""
    table = Table(title="Largest difference from the weights of one device")
    for heading in ("task", "tuned", *options.cases, "moved by"):
        table.add_column(heading)
    for start in range(0, len(agreements), len(options.cases)):
        row = agreements[start : start + len(options.cases)]
        cells = [f"{one.weights:.1e}" for one in row]
        table.add_row(row[0].task, row[0].kind, *cells, f"{row[0].moved:.1e}")
    return table


if __name__ == "__main__":
    sys.exit(main())

"""What compiling a whole training step takes: `python -m benchmarks.compile_time`.

Each case has a process of its own and finds nothing compiled before. On a CPU try it with
--layers 2 --cases static --rows 2 --length 64.
"""

import dataclasses
import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.processes import ENVIRONMENT, ROOT
from gpt2_tuning import cli, startup
from gpt2_tuning.compiled_cache import FLAG, FLAGS
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import require

AUTOTUNING, PARALLEL = "xla_gpu_autotune_level", "xla_gpu_force_compilation_parallelism"
CASES = {
    "static": {},
    "unknown": {},
    "static/triton": {startup.TRITON: "true"},
    "unknown/triton": {startup.TRITON: "true"},
    "static/autotune-0": {AUTOTUNING: "0"},
    "static/autotune-2": {AUTOTUNING: "2"},
    "static/parallel-1": {PARALLEL: "1"},
    "static/parallel-16": {PARALLEL: "16"},
    "static/loop": {},
}
"""What a case's process has in XLA_FLAGS beside `--xla_gpu_enable_triton_gemm=false`. `static` or
`unknown` is what the step's trace knows of the length of the rows. With `loop` its blocks are a
loop."""
FEW = ("static", "static/triton", "static/loop")
"""The cases that are measured with another number of layers than the last one."""
ANSWER = "result "
ASKED = ("precision", "rows", "length", "width")
"""The options that every case is told."""
COUNTS = {"hlo": "instructions", "optimised": "optimised"}
"""The figures of a case that are counts, with their titles."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Times what compiling a whole training step takes, each case in a process of its own."""

    layers: tuple[int, ...] = (2, 12)
    """Numbers of layers; all cases are measured with the last, three with the others."""
    cases: tuple[str, ...] = ("*",)
    """Names of cases, where * stands for anything."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Type of the computation."""
    rows: int = 8
    """Rows of the batch."""
    length: int = 256
    """Tokens of a row."""
    width: int = 768
    """Of the hidden states, 64 of them a head."""
    instructions: bool = False
    """Count XLA's instructions too, for which each case compiles its step once more."""
    timeout: int = 300
    """Seconds after which a case is given up."""
    output: Path = ROOT / "benchmarks" / "work" / "compile_time.json"
    """Where the figures go."""

    def check(self) -> None:
        """Raises UserError when no case is left."""
        if not self.layers or not chosen(self.cases):
            raise UserError(f"no case is chosen: --cases takes {', '.join(CASES)}")
        require(self.width >= 64 and not self.width % 64, "width", "a multiple of 64", self)


def chosen(patterns: Sequence[str]) -> list[str]:
    """The cases that a pattern names."""
    return [name for name in CASES if any(fnmatch.fnmatch(name, each) for each in patterns)]


def measure(options: Options) -> int:
    """Measures the cases one after another, writes their figures and prints a table."""
    console, found = Console(highlight=False, soft_wrap=True), []
    for layers in options.layers:
        for name in chosen(options.cases):
            if layers == options.layers[-1] or name in FEW:
                found.append(figures_of(name, layers, options))
                console.print(as_line(found[-1]))
                write(found, options)  # at once: the time on a lent machine may end
    console.print(as_table(found))
    return int(any("error" in case for case in found))


def write(cases: Sequence[dict[str, Any]], options: Options) -> None:
    """Writes the figures of the cases so far."""
    device = next((case["device"] for case in cases if "device" in case), "")
    asked = {name: getattr(options, name) for name in ASKED}
    content = {"machine": machine.described(device), **asked, "cases": cases}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def figures_of(name: str, layers: int, options: Options) -> dict[str, Any]:
    """What a case's process measured, or why it did not."""
    flags = {startup.TRITON: "false", **CASES[name]}
    settings = {
        "layers": layers,
        "static": name.startswith("static"),
        "loop": name.endswith("loop"),
        "instructions": options.instructions,
        **{asked: getattr(options, asked) for asked in ASKED},
    }
    given = os.environ.get(startup.XLA_FLAGS, "")
    environment = {
        **os.environ,
        **ENVIRONMENT,
        startup.XLA_FLAGS: " ".join([given, *(f"--{key}={flags[key]}" for key in flags)]).strip(),
        FLAGS: f"--{FLAG}=",
    }
    command = [sys.executable, "-m", "benchmarks.compile_step", json.dumps(settings)]
    case: dict[str, Any] = {"case": name, "layers": layers}
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=options.timeout,
        )
    except subprocess.TimeoutExpired:
        return {**case, "error": f"longer than {options.timeout} s"}
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode or not answers:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {**case, "error": lines[-1][:300]}
    return {**case, **json.loads(answers[-1].removeprefix(ANSWER))}


def as_line(case: dict[str, Any]) -> str:
    """A case as it is told when it is done."""
    told = case.get("error") or f"{case['first_step_s']:.1f} s, then {case['step_ms']:.1f} ms"
    return f"{case['case']}, {case['layers']} layers: {told}"


def as_table(cases: Sequence[dict[str, Any]]) -> Table:
    """All cases, those that failed without figures."""
    table = Table("case")
    counted = [name for name in COUNTS if any(name in case for case in cases)]
    for title in ("layers", "first step, s", "step, ms", *(COUNTS[name] for name in counted)):
        table.add_column(title, justify="right")
    for case in cases:
        names = () if "error" in case else ("first_step_s", "step_ms")
        figures = [f"{case[name]:.1f}" for name in names] or ["failed", ""]
        figures += [f"{case[name]:,}" for name in counted if name in case]
        table.add_row(case["case"], str(case["layers"]), *figures)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv, tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())

"""The table of a GPU, in eight minutes: `python -m benchmarks.gpu_table --peer_python PYTHON`.

Line by line, the most important first. Each has a time of its own, and what earlier lines left of
theirs; the results are written after every one. Nothing is installed.
"""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import bases, common, compile_time, first_run, machine, run, side_by_side, table
from benchmarks.cases import CASES, LORA, OURS, STEP, Case, reduced
from benchmarks.gpu_targets import as_rows, missed
from benchmarks.processes import ROOT
from gpt2_tuning import cli, nvidia
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import require

LONG = {**STEP, "length": 1024, "prompt": 512}
PRECISE = {"precision": "bfloat16", "lora": LORA}
LORA_PEERS = {"hf": ("weights", "weights-compile"), "kerashub": ("weights-xla",)}
FULL_PEERS = {"hf": ("autocast", "autocast-compile"), "kerashub": ("mixed-xla",)}
HEADS = ("measured", "figure", "who", "value", "ours / best peer", "target")
ALONE = {"kerashub": "it does not group rows by length"}
Entry = dict[str, Any]
"""A line's result: as a case's of report.summarized."""


Names = tuple[str, ...]


def step(name: str, settings: dict[str, Any], ours: Names, peers: dict[str, Names]) -> Case:
    """A training step, with the variants of all sides."""
    tuning = name.split("/")[0]
    settings = {**settings, **PRECISE, "tuning": tuning}
    return Case(f"step/{name}", "step", settings, {OURS: ours, **peers})


def epoch(data: str) -> Case:
    """An epoch over the rows of a data set, ours packed as training on a GPU has them."""
    case = CASES[f"epoch/{data}"]
    variants = {OURS: ("packed",), "hf": ("weights-grouped",)}
    return dataclasses.replace(case, variants=variants, lacking=ALONE)


def generation(prompts: int) -> Case:
    """Continuations; transformers with a static cache, compiled, and as it comes."""
    case = CASES[f"generate/{prompts}/bfloat16"]
    variants = {OURS: ("default",), "hf": ("compile", "eager"), "kerashub": ("xla",)}
    return dataclasses.replace(case, variants=variants)


@dataclasses.dataclass(frozen=True)
class Line:
    """What is measured at a time, and the seconds it may take."""

    seconds: int
    measure: "Callable[[Options, float], Iterator[Entry]]"


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures us beside PyTorch and KerasHub on a GPU, in the time that is given."""

    lines: tuple[str, ...] = ()
    """Which lines, in which order. Default: all, the most important first."""
    peer_python: Path = Path(sys.executable)
    """The interpreter that has PyTorch, transformers, PEFT and KerasHub. What it lacks is named and
    left out."""
    data: Path | None = None
    """A directory with emotion/, rte/ and alpaca/; without it their epochs are left out."""
    epoch_rows: int = 2048
    """The most rows of an epoch."""
    repeats: int = 5
    """Rounds that a variant measures once it is ready."""
    minutes: float = 8.0
    """After so many no line is begun, and the one that is under way is cut off."""
    work: Path = ROOT / "benchmarks" / "work"
    """Where weights, tokenised rows and runs are kept."""
    output: Path = ROOT / "benchmarks" / "work" / "gpu_table.json"
    """Where the results go, after every line."""
    trial: bool = False
    """Next to nothing of each line, without a limit of time, to see that it runs: on a CPU too."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in self.lines:
            if name not in LINES:
                raise UserError(f"unknown line {name!r}: choose among {', '.join(LINES)}")
        for name in ("repeats", "epoch_rows"):
            require(getattr(self, name) >= 1, name, "at least 1", self)
        require(self.minutes > 0, "minutes", "above 0", self)
        if self.data and not self.data.is_dir():
            raise UserError(f"--data {self.data} is not a directory")
        if not self.peer_python.is_file():
            raise UserError(f"--peer_python {self.peer_python} is missing")


def first_step(
    layers: int, width: int, loop: bool, options: Options, seconds: float
) -> Iterator[Entry]:
    """The first step of LoRA with nothing compiled before."""
    name, case = f"first/{layers} layers of {width}", "static/loop" if loop else "static"
    asked = compile_time.Options(width=width, timeout=max(1, int(seconds)))
    if options.trial:
        layers, asked = 2, dataclasses.replace(asked, rows=2, length=16, width=64)
    found = compile_time.figures_of(case, layers, asked)
    figures = ("first_step_s", "step_ms", "peak_mb")
    yield alone(name, "loop" if loop else "default", found, figures)


def demo(options: Options, seconds: float) -> Iterator[Entry]:
    """The demo's training, from the command to the end, with nothing compiled before."""
    place = options.work / "gpu_demo"
    train = ("--epochs", "1") if options.trial else ()
    asked = first_run.Options(runs=("demo",), timeout=max(1, int(seconds)), work=place)
    first_run.make_anew(place)
    found = next(first_run.figures_of("demo", asked, train))
    yield alone("demo", "default", found, ("seconds", "first_steps_seconds"))


def alone(name: str, variant: str, found: dict[str, Any], figures: Sequence[str]) -> Entry:
    """An entry of ours, from figures that another command of the benchmarks has measured."""
    entry: Entry = {"name": name, "measured": {}, "missing": {}, "ratios": {}}
    if "error" in found:
        entry["missing"][f"{OURS}/{variant}"] = f"failed: {found['error']}"
        return entry
    values = {each: {"values": [found[each]], "median": found[each]} for each in figures}
    entry["measured"][OURS] = {variant: {"figures": values}}
    return entry


def compared(cases: Sequence[Case], options: Options, seconds: float) -> Iterator[Entry]:
    """Cases whose variants get ready side by side."""
    asked = run.Options(
        peer_python=options.peer_python,
        data=options.data,
        work=options.work,
        timeout=max(1, int(seconds)),
    )
    files = {case.name: run.data_file(case, asked) for case in cases}
    there = [sized(case, options) for case in cases if not case.data or files[case.name]]
    if not there:
        return
    bases.write_base(options.work / common.BASES[common.GPT2], common.GPT2)
    GPT2Tokenizer().save(options.work / common.TOKENIZER)
    yield from side_by_side.summaries(
        there,
        functools.partial(run.taking_part, options=asked),
        lambda case, *turn: run.start_worker(case, files[case.name], asked, *turn),
        1 if options.trial else options.repeats,
        seconds,
        functools.partial(print, flush=True),
    )


def sized(case: Case, options: Options) -> Case:
    """A case as large as it is to be measured."""
    if options.trial:
        return reduced(case)
    if case.kind != "epoch":
        return case
    return dataclasses.replace(case, settings={**case.settings, "rows": options.epoch_rows})


SHORT_STEP = step("lora/8x256", STEP, ("default", "loop"), LORA_PEERS)
LONG_STEP = step("lora/8x1024", LONG, ("default", "atonce", "loop"), LORA_PEERS)
FULL_STEP = step("full/8x1024", LONG, ("default",), FULL_PEERS)
EPOCHS = tuple(map(epoch, ("emotion", "rte", "alpaca")))
LINES: dict[str, Line] = {
    "first/124M": Line(55, functools.partial(first_step, 12, 768, False)),
    "first/774M": Line(75, functools.partial(first_step, 36, 1280, False)),
    "demo": Line(35, demo),
    "lora/8x1024": Line(80, functools.partial(compared, (LONG_STEP,))),
    "lora/8x256": Line(55, functools.partial(compared, (SHORT_STEP,))),
    "full": Line(50, functools.partial(compared, (FULL_STEP,))),
    "epochs": Line(40, functools.partial(compared, EPOCHS)),
    "decoding": Line(40, functools.partial(compared, (generation(8), generation(1)))),
    "first/774M/loop": Line(30, functools.partial(first_step, 36, 1280, True)),
    "first/124M/loop": Line(20, functools.partial(first_step, 12, 768, True)),
}
"""All of them in eight minutes, where each takes no more than its time."""


def measure(options: Options) -> int:
    """Measures the lines one after another; 1 where one of ours has no figures."""
    found: list[Entry] = []
    start, spare = time.monotonic(), 0.0
    driver = nvidia.driver()
    card = driver.cards[0].name if driver and driver.cards else "no GPU"
    options.work.mkdir(parents=True, exist_ok=True)
    write(found, card, 0.0, options)  # where it cannot be, that is known before lent time is spent
    for name in options.lines or LINES:
        left = 60 * options.minutes - (time.monotonic() - start)
        if left <= 0 and not options.trial:
            print(f"{name}: not begun, {options.minutes:g} minutes are over")
            continue
        given = 3600.0 if options.trial else min(LINES[name].seconds + spare, left)
        begun = time.monotonic()
        for entry in LINES[name].measure(options, given):
            found.append({"line": name, **entry})
            write(found, card, time.monotonic() - start, options)
        spare = given - (time.monotonic() - begun)
    print(f"{card}\n\n{table.aligned(HEADS, list(as_rows(found)))}\n")
    for line in [] if options.trial else missed(found):
        print(line)
    return int(any(who.startswith(OURS) for entry in found for who in entry["missing"]))


def write(found: Sequence[Entry], card: str, seconds: float, options: Options) -> None:
    """Writes the entries so far."""
    content = {
        "machine": machine.described(card),
        "trial": options.trial,
        "seconds": round(seconds, 1),
        "entries": found,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv, tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())

"""Measures us and the peers side by side: `python -m benchmarks.run --cases "step/*"`.

Every measurement is a process of its own; ours and the peers' take turns, so that what else the
machine does falls on all of them.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import common, report, rows
from benchmarks.cases import CASES, FIGURES, OURS, PEERS, PREPARED, Case, chosen, reduced
from benchmarks.report import Run
from gpt2_tuning import cli
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.options import require

ROOT = Path(__file__).parents[1]
HERE = ROOT / "benchmarks"
RESULTS = HERE / "results.json"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
SIDES = {OURS: {"USE_TORCH": "0"}, "hf": {"USE_TF": "0"}, "kerashub": {"USE_TORCH": "0"}}
"""Variables of each worker's environment, so that it imports its own framework alone."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures us and the peers side by side; writes medians, ratios and a table."""

    cases: tuple[str, ...] = ()
    """Names of cases, where * stands for anything. Default: all of them."""
    peers: tuple[str, ...] = tuple(PEERS)
    """The peers to compare with: hf, kerashub."""
    variants: tuple[str, ...] = ()
    """Only these variants of the peers, such as weights; a peer without any of them takes no part.
    Default: all."""
    repeats: int = 5
    """Processes of each side; in the first round every variant of a peer has one."""
    inner: int = 5
    """Times that each process repeats what it measures, after it has warmed up."""
    data: Path | None = None
    """A directory with emotion/, rte/ and alpaca/; without it their cases are skipped."""
    peer_python: Path = ROOT / ".venv-bench" / "bin" / "python"
    """The interpreter that has the peers."""
    work: Path = HERE / "work"
    """Where weights and tokenised rows are kept between runs."""
    output: Path = RESULTS
    """Where the results go; cases measured here before stay in it. Those in the default file also
    stand in benchmarks/README.md."""
    timeout: int = 1800
    """Seconds after which a process has failed."""
    trial: bool = False
    """Run every variant once on next to no data, to see that all works; nothing is kept."""
    list: bool = False
    """Only name the cases."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in ("repeats", "inner", "timeout"):
            require(getattr(self, name) >= 1, name, "at least 1", self)
        for peer in self.peers:
            if peer not in PEERS:
                raise UserError(f"unknown peer {peer!r}: choose among {', '.join(PEERS)}")
        known = {
            word for case in CASES.values() for words in case.variants.values() for word in words
        }
        for variant in self.variants:
            if variant not in known:
                raise UserError(
                    f"unknown variant {variant!r}: choose among {', '.join(sorted(known))}"
                )
        try:
            chosen(self.cases)
        except KeyError as error:
            raise UserError(f"unknown case {error}: choose among {', '.join(CASES)}") from None
        if self.data and not self.data.is_dir():
            raise UserError(f"--data {self.data} is not a directory")
        if self.peers and not self.list and not self.peer_python.exists():
            raise UserError(
                f"{self.peer_python} is missing: `make bench` installs the peers; or leave them "
                "out with --peers"
            )


def measure(options: Options) -> int:
    """Measures the cases one after another; 1 where ours failed or a comparison does not hold."""
    cases, console = chosen(options.cases), Console(highlight=False, soft_wrap=True)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    if options.trial:
        cases = [reduced(case) for case in cases]
        options = dataclasses.replace(options, repeats=1, inner=1)
    common.write_base(options.work / common.BASE)
    GPT2Tokenizer().save(options.work / common.TOKENIZER)
    sound = True
    for case in cases:
        file = data_file(case, options)
        if case.data and file is None:
            console.print(f"{case.name}: skipped, --data has no {rows.FILES[case.data]}")
            continue
        load = os.getloadavg()[0] / common.cores()
        summary = report.summarized(case, measured_runs(case, file, options, console))
        summary["load"] = round(load, 2)
        if not options.trial:
            keep(summary, options)
        console.print(report.table([summary]), "\n", markup=False)
        compared = not any(why.startswith("not compared") for why in summary["missing"].values())
        sound &= OURS in summary["measured"] and compared
    return 0 if sound else 1


def data_file(case: Case, options: Options) -> Path | None:
    """What the workers read: the raw rows for preparation, the tokenised ones for the others."""
    if case.data is None or options.data is None:
        return None
    raw = options.data / rows.FILES[case.data]
    if not raw.is_file():
        return None
    if case.kind == "prepare":
        return raw.resolve()
    return rows.tokenised(case.data, raw, options.work.resolve() / case.data / PREPARED)


def measured_runs(case: Case, file: Path | None, options: Options, console: Console) -> list[Run]:
    """All processes of a case: every variant first, then ours and each peer's fastest in turn."""
    workers = [OURS, *(peer for peer in options.peers if peer in case.variants)]
    wanted = {*options.variants, *case.variants[OURS]} if options.variants else None
    turns = [
        (worker, variant)
        for worker in workers
        for variant in case.variants[worker]
        if wanted is None or variant in wanted
    ]
    runs: list[Run] = []
    for number in range(options.repeats):
        for worker, variant in turns if number % 2 == 0 else turns[::-1]:
            run = run_worker(case, worker, variant, file, options)
            console.print(
                f"{case.name}  {number + 1}/{options.repeats}  {worker} {variant}: {said(run)}",
                markup=False,
            )
            runs.append(run)
        turns = fastest(turns, runs)
    return runs


def fastest(turns: Sequence[tuple[str, str]], runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Each worker's variant with the best main figure so far; none of one that always failed."""
    scores: dict[str, tuple[float, str]] = {}
    for run in runs:
        if run.result is None:
            continue
        value = score(run.result["figures"])
        if (run.worker, run.variant) in turns:
            scores[run.worker] = max(
                scores.get(run.worker, (value, run.variant)), (value, run.variant)
            )
    return [(worker, variant) for worker, (_, variant) in scores.items()]


def score(figures: dict[str, list[float]]) -> float:
    """The median of the main figure, so that more is better; 0 for points of a curve."""
    for name, figure in FIGURES.items():
        if name in figures and not figure.suffix:
            return common.median(figures[name]) * (1 if figure.higher_is_better else -1)
    return 0.0


def run_worker(case: Case, worker: str, variant: str, file: Path | None, options: Options) -> Run:
    """One process from start to end."""
    python = sys.executable if worker == OURS else str(options.peer_python.absolute())
    paths = [ROOT, ROOT / "src"] if worker == OURS else [ROOT]
    environment = {
        **os.environ,
        **OFFLINE,
        **SIDES[worker],
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    spec = {
        "kind": case.kind,
        "variant": variant,
        "settings": dict(case.settings),
        "work": str(options.work.resolve()),
        "inner": options.inner,
        "data": str(file) if file else None,
        "launched": time.time(),
    }
    try:
        done = subprocess.run(
            [python, "-m", f"benchmarks.{worker}", json.dumps(spec)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=options.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run(worker, variant, failure=f"not done after {options.timeout} s")
    if done.returncode == 0:
        return Run(worker, variant, json.loads(done.stdout.splitlines()[-1]))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    why = f"ended by signal {-done.returncode}" if done.returncode < 0 else (lines or ["?"])[-1]
    return Run(worker, variant, failure=why[:300])


def said(run: Run) -> str:
    """A process's figures in a line."""
    if run.result is None:
        return f"failed: {run.failure}"
    figures = run.result["figures"].items()
    return ", ".join(f"{name} {common.median(values):,.3f}" for name, values in figures)


def keep(summary: dict[str, Any], options: Options) -> None:
    """Adds a case to results.json, where those of another machine are dropped."""
    machine = machine_of(summary)
    kept: dict[str, Any] = {}
    if options.output.exists():
        before = json.loads(options.output.read_text(encoding="utf-8"))
        # Where ours failed the device is not known: then it is taken for the one before.
        machine["device"] = machine["device"] or before["machine"]["device"]
        if before["machine"] == machine:
            kept = {case["name"]: case for case in before["cases"]}
    kept[summary["name"]] = summary
    ordered = [kept[name] for name in CASES if name in kept]
    page = HERE / "README.md" if options.output == RESULTS else None
    report.write(options.output, page, report.results(machine, ordered))


def machine_of(summary: dict[str, Any]) -> dict[str, Any]:
    """What was measured on."""
    ours = summary["measured"].get(OURS, {}).get("default", {})
    return {
        "processor": processor(),
        "cores": common.cores(),
        "device": ours.get("about", {}).get("device", ""),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv, tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())

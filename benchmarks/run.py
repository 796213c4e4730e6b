"""Measures us and the peers side by side: `python -m benchmarks.run --cases "step/*"`.

A case at a time: every variant has a process that gets ready once and then measures a round when
it is its turn (rounds.py).
"""

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import bases, common, machine, report, rows, table
from benchmarks.cases import CASES, OURS, PEERS, PREPARED, Case, chosen, reduced
from benchmarks.processes import ROOT, Process, interpreter, launched
from benchmarks.rounds import Rounds
from gpt2_tuning import cli, nvidia
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.ranges import require

HERE = ROOT / "benchmarks"
RESULTS = HERE / "results.json"


def results_file() -> Path:
    """results.json, or on a machine with a GPU a file with its name, results_nvidia_h200.json."""
    driver = nvidia.driver()
    if driver is None:
        return RESULTS
    card = re.sub(r"\W+", "_", driver.cards[0].name).lower()
    return RESULTS.with_stem(f"{RESULTS.stem}_{card}")


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
    """Rounds, in each of which every side measures once; some cases have fewer."""
    data: Path | None = None
    """A directory with emotion/, rte/ and alpaca/; without it their cases are skipped."""
    peer_python: Path = ROOT / ".venv-bench" / "bin" / "python"
    """The interpreter that has the peers."""
    work: Path = HERE / "work"
    """Where weights and tokenised rows are kept between runs."""
    output: Path = dataclasses.field(default_factory=results_file)
    """Where the results go, with a GPU by its name; cases measured here before stay in it. Those in
    results.json also stand in benchmarks/README.md."""
    timeout: int = 300
    """Seconds after which a variant that has not warmed up, or not measured a round, is too slow
    to be measured."""
    trial: bool = False
    """Run every variant once on next to no data, to see that all works; nothing is kept."""
    list: bool = False
    """Only name the cases."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in ("repeats", "timeout"):
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
        options = dataclasses.replace(options, repeats=1)
    for family in {case.settings.get("family", common.GPT2) for case in cases}:
        bases.write_base(options.work / common.BASES[family], family)
    GPT2Tokenizer().save(options.work / common.TOKENIZER)
    sound = True
    for case in cases:
        file = data_file(case, options)
        if case.data and file is None:
            console.print(f"{case.name}: skipped, --data has no {rows.FILES[case.data]}")
            continue
        summary = measured(case, file, options, functools.partial(console.print, markup=False))
        if not options.trial:
            keep(summary, options)
        console.print(table.written([summary]), "\n", markup=False)
        sound &= holds(summary)
    return 0 if sound else 1


def measured(
    case: Case, file: Path | None, options: Options, say: Callable[[str], object]
) -> dict[str, Any]:
    """The summary of a case, with the share of the machine that others had meanwhile."""
    launch = functools.partial(start_worker, case, file, options)
    others = machine.OtherUse()
    turns = taking_part(case, options)
    runs = Rounds(case, turns, launch, options.repeats, options.timeout, say).measured()
    share = others.share()
    return {
        **report.summarized(case, runs),
        "others": share if share is None else round(share, 3),
    }


def holds(summary: dict[str, Any]) -> bool:
    """Whether ours was measured to the end and no peer did other work; one may be too slow."""
    missing = summary["missing"].items()
    ours_failed = any(who.split("/")[0] == OURS for who, _ in missing)
    other_work = any(why.startswith("not compared") for _, why in missing)
    return not ours_failed and not other_work


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


def taking_part(case: Case, options: Options) -> list[tuple[str, str]]:
    """Who is measured: ours first, then the peers' variants that are wanted."""
    wanted = {*options.variants, *case.variants[OURS]} if options.variants else None
    return [
        (worker, variant)
        for worker in (OURS, *options.peers)
        for variant in case.variants.get(worker, ())
        if wanted is None or variant in wanted
    ]


def start_worker(
    case: Case, file: Path | None, options: Options, worker: str, variant: str
) -> Process:
    """The process of a variant."""
    spec = {
        "kind": case.kind,
        "variant": variant,
        "settings": dict(case.settings),
        "work": str(options.work.resolve()),
        "timeout": options.timeout,
        "data": str(file) if file else None,
    }
    return launched(worker, interpreter(worker, options.peer_python), spec)


def keep(summary: dict[str, Any], options: Options) -> None:
    """Adds a case to results.json, where those of another machine are dropped, and to the page."""
    ours = summary["measured"].get(OURS, {}).get("default", {})
    here = machine.described(ours.get("about", {}).get("device", ""))
    kept: dict[str, Any] = {}
    if options.output.exists():
        before = json.loads(options.output.read_text(encoding="utf-8"))
        # Where ours failed the device is not known: then it is taken for the one before.
        here["device"] = here["device"] or before["machine"]["device"]
        if before["machine"] == here:
            kept = {case["name"]: case for case in before["cases"]}
    kept[summary["name"]] = summary
    content = report.results(here, [kept[name] for name in CASES if name in kept])
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.output == RESULTS:
        page = HERE / "README.md"
        text = table.in_page(page.read_text(encoding="utf-8"), content)
        page.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, measure, argv, tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())

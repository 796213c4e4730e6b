"""From what workers measured to medians, ratios and a table."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import FIGURES, OURS, PEERS, Case, Figure

LOSS_BOUNDS = {"float32": 1e-3, "bfloat16": 5e-2}
"""How far the losses of the same batch may be apart, by precision."""
SAME_TOKENS = 0.9
"""The share of greedy tokens in float32 that must be the same: a near tie may split a row."""
BUSY = 0.3
"""Load average a core, before a case begins, from which the machine was not at rest."""
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


@dataclasses.dataclass(frozen=True)
class Run:
    """One process of a worker: what it printed, or why it failed."""

    worker: str
    variant: str
    result: Mapping[str, Any] | None = None
    failure: str = ""


def summarized(case: Case, runs: Sequence[Run]) -> dict[str, Any]:
    """One entry of `cases` in results.json.

    `measured` has for each worker and variant the values and the median of each figure, `missing`
    says who is not compared and why, and `ratios` has the names of `ratios_of`.
    """
    measured: dict[str, dict[str, Any]] = {}
    missing = {worker: f"n/a: {reason}" for worker, reason in case.lacking.items()}
    reference = next((run.result for run in runs if run.worker == OURS and run.result), None)
    for run in runs:
        name = f"{run.worker}/{run.variant}"
        if run.result is None:
            missing[name] = f"failed: {run.failure}"
            continue
        problem = disagreement(case, reference, run.result)
        if problem:
            missing[name] = f"not compared: {problem}"
            continue
        entry = measured.setdefault(run.worker, {}).setdefault(run.variant, {"figures": {}})
        entry |= {key: run.result[key] for key in ("about", "trained") if key in run.result}
        if "loss" in run.result.get("guard", {}):
            entry["first_loss"] = run.result["guard"]["loss"]
        for figure, values in run.result["figures"].items():
            entry["figures"].setdefault(figure, {"values": []})["values"] += values
    ran = {(run.worker, run.variant) for run in runs}
    for worker, names in case.variants.items():
        for variant in names:
            if (worker, variant) not in ran:
                missing[f"{worker}/{variant}"] = "not measured: left out by a flag"
    for variants in measured.values():
        for entry in variants.values():
            for figure in entry["figures"].values():
                figure["median"] = statistics.median(figure["values"])
    summary = {"name": case.name, "settings": dict(case.settings), "measured": measured}
    return {**summary, "missing": missing, "ratios": ratios_of(case.name, measured)}


def disagreement(
    case: Case, ours: Mapping[str, Any] | None, other: Mapping[str, Any]
) -> str | None:
    """Why a result is not of the same work as ours; None where it is."""
    guards = [(result or {}).get("guard", {}) for result in (ours, other)]
    precision = case.settings.get("precision", "float32")
    if all("loss" in guard for guard in guards):
        mine, theirs = (guard["loss"] for guard in guards)
        # Not `>`: a loss that is not a number agrees with nothing.
        if not abs(mine - theirs) <= LOSS_BOUNDS[precision]:
            return f"its first loss is {theirs:.5f}, ours {mine:.5f}"
    if all("tokens" in guard for guard in guards) and precision == "float32":
        same = same_share(*(guard["tokens"] for guard in guards))
        if same < SAME_TOKENS:
            return f"only {same:.0%} of its greedy tokens are ours"
    return None


def same_share(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """The share of equal tokens, place by place."""
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=False)]
    longest = max(sum(map(len, rows)) for rows in (ours, theirs))
    return sum(a == b for a, b in pairs) / max(longest, 1)


def best(measured: Mapping[str, Any], worker: str, name: str) -> tuple[float, str] | None:
    """A worker's best median of a figure and the variant that has it."""
    found = [
        (entry["figures"][name]["median"], variant)
        for variant, entry in measured.get(worker, {}).items()
        if name in entry["figures"]
    ]
    if not found:
        return None
    return max(found) if FIGURES[name].higher_is_better else min(found)


def ratios_of(case: str, measured: Mapping[str, Any]) -> dict[str, float]:
    """Ours over the best peer's, by `case` for the main figure and `case/suffix` for others.

    Of a speed more than 1 is better, of a time or of memory less.
    """
    ratios = {}
    for name, figure in FIGURES.items():
        ours = best(measured, OURS, name)
        peers = [found[0] for peer in PEERS if (found := best(measured, peer, name))]
        if ours and peers:
            rival = max(peers) if figure.higher_is_better else min(peers)
            key = f"{case}/{figure.suffix}" if figure.suffix else case
            ratios[key] = round(ours[0] / rival, 3)
    return ratios


def results(machine: Mapping[str, Any], cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of results.json."""
    cases = list(cases)
    ratios = {key: ratio for case in cases for key, ratio in case["ratios"].items()}
    return {"machine": dict(machine), "ratios": ratios, "cases": cases}


def table(cases: Iterable[Mapping[str, Any]]) -> str:
    """All cases in Markdown, with the reasons for what is missing beneath."""
    heads = ["case", "figure", "ours", *PEERS.values(), "ours / best peer"]
    lines = [heads, ["---"] * len(heads)]
    notes = []
    for case in cases:
        for name in figure_names(case["measured"]):
            lines.append(row(case, name))
        if OURS not in case["measured"]:
            lines.append([case["name"], "", "failed", *[""] * len(PEERS), ""])
        notes += [f"* {case['name']}, {who}: {why}" for who, why in case["missing"].items()]
        if case.get("load", 0) > BUSY:
            notes.append(f"* {case['name']}: measured on a busy machine, {case['load']:.1f} a core")
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return text + "".join(f"\n{note}" for note in ("", *notes) if notes)


def figure_names(measured: Mapping[str, Any]) -> list[str]:
    """The figures that anybody has, those that are compared first."""
    found = [
        name
        for variants in measured.values()
        for entry in variants.values()
        for name in entry["figures"]
    ]
    curves = dict.fromkeys(name for name in found if name not in FIGURES)
    return [*(name for name in FIGURES if name in found), *curves]


def row(case: Mapping[str, Any], name: str) -> list[str]:
    """One figure of a case."""
    measured, figure = case["measured"], FIGURES.get(name)
    if figure is None:  # a point of a curve
        value = measured[OURS]["default"]["figures"][name]["median"]
        return [case["name"], name, f"{value:.3f}", *["n/a"] * len(PEERS), ""]
    ours = cell(best(measured, OURS, name), figure, "failed", named=False)
    peers = [cell(best(measured, peer, name), figure, absence(case, peer)) for peer in PEERS]
    key = f"{case['name']}/{figure.suffix}" if figure.suffix else case["name"]
    ratio = case["ratios"].get(key)
    return [case["name"], figure.unit, ours, *peers, f"{ratio:.2f}" if ratio else ""]


def cell(found: tuple[float, str] | None, figure: Figure, absent: str, named: bool = True) -> str:
    """A median and whose variant it is, or why there is none."""
    if not found:
        return absent
    decimals = figure.decimals or int(found[0] < 100)
    return f"{found[0]:,.{decimals}f}" + (f" ({found[1]})" if named else "")


def absence(case: Mapping[str, Any], peer: str) -> str:
    """In a word, why a peer has no figure."""
    reasons = [why for who, why in case["missing"].items() if who.split("/")[0] == peer]
    return reasons[0].split(":")[0] if reasons else "n/a"


def write(file: Path, page: Path | None, content: Mapping[str, Any]) -> None:
    """Writes results.json and puts the table between the markers of the page, if there is one."""
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        page.write_text(with_table(page.read_text(encoding="utf-8"), content), encoding="utf-8")


def with_table(text: str, content: Mapping[str, Any]) -> str:
    """The text with the results between its markers; as it was where it has none."""
    if BEGIN not in text or END not in text:
        return text
    machine = content["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['device']}"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{where}\n\n{table(content['cases'])}\n{END}{after}"

"""From what workers measured to medians and ratios."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.cases import FIGURES, OURS, PEERS, Case, is_grouped

LOSS_BOUNDS = {"float32": 1e-3, "bfloat16": 5e-2}
"""How far the losses of the same batch may be apart, by precision."""
SAME_TOKENS = 0.9
"""The share of greedy tokens in float32 that must be the same: a near tie may split a row."""


@dataclasses.dataclass
class Run:
    """A worker's variant: what it has measured, and why no more."""

    worker: str
    variant: str
    result: Mapping[str, Any] | None = None
    """`figures`, for each a list of values; `guard`, `about` and `trained` as the worker gives."""
    missing: str = ""
    """"failed", "stopped" (too slow) or "not compared", a colon and the reason."""


def summarized(case: Case, runs: Sequence[Run]) -> dict[str, Any]:
    """One entry of `cases` in results.json.

    `measured` has for each worker and variant the values and the median of each figure, `missing`
    says who is not compared and why, and `ratios` has the names of `ratios_of`.
    """
    measured: dict[str, dict[str, Any]] = {}
    missing = {worker: f"n/a: {reason}" for worker, reason in case.lacking.items()}
    for run in runs:
        if run.missing:
            missing[f"{run.worker}/{run.variant}"] = run.missing
        # What has figures counts with them, even where it failed later.
        if run.result and run.result["figures"] and not run.missing.startswith("not compared"):
            measured.setdefault(run.worker, {})[run.variant] = entry(run.result)
    ran = {(run.worker, run.variant) for run in runs}
    for worker, names in case.variants.items():
        for variant in names:
            if (worker, variant) not in ran:
                missing[f"{worker}/{variant}"] = "not measured: left out by a flag"
    summary = {"name": case.name, "settings": dict(case.settings), "measured": measured}
    return {**summary, "missing": missing, "ratios": ratios_of(case.name, measured)}


def entry(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a variant has measured."""
    figures = {
        name: {"values": values, "median": statistics.median(values)}
        for name, values in result["figures"].items()
    }
    known = {key: result[key] for key in ("about", "trained") if key in result}
    if "loss" in result.get("guard", {}):
        known["first_loss"] = result["guard"]["loss"]
    return {"figures": figures, **known}


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
    """A worker's best median of a figure and the variant that has it.

    Only those variants count that have measured it most often: one lucky round is no median.
    """
    figure = FIGURES[name]
    found = {
        variant: entry["figures"][figure.source or name]
        for variant, entry in measured.get(worker, {}).items()
        if (figure.source or name) in entry["figures"]
        and (figure.grouped or not is_grouped(variant))
    }
    if not found:
        return None
    rounds = max(len(values["values"]) for values in found.values())
    medians = [
        (values["median"], variant)
        for variant, values in found.items()
        if len(values["values"]) == rounds
    ]
    return max(medians) if figure.higher_is_better else min(medians)


def figure_names(measured: Mapping[str, Any]) -> list[str]:
    """The figures that anybody has, those that are compared first.

    That of grouped rows is one only where somebody groups them.
    """
    variants = [pair for found in measured.values() for pair in found.items()]
    names = [name for _, entry in variants for name in entry["figures"]]
    grouped = {
        name for variant, entry in variants if is_grouped(variant) for name in entry["figures"]
    }
    compared = [
        name
        for name, figure in FIGURES.items()
        if (figure.source in grouped if figure.grouped else name in names)
    ]
    return [*compared, *dict.fromkeys(name for name in names if name not in FIGURES)]


def ratios_of(case: str, measured: Mapping[str, Any]) -> dict[str, float]:
    """Ours over the best peer's, by `case` for the main figure and `case/suffix` for others.

    Of a speed more than 1 is better, of a time or of memory less.
    """
    ratios = {}
    for name in figure_names(measured):
        if name not in FIGURES:
            continue
        figure, ours = FIGURES[name], best(measured, OURS, name)
        peers = [found[0] for peer in PEERS if (found := best(measured, peer, name))]
        if ours and peers:
            rival = max(peers) if figure.higher_is_better else min(peers)
            ratios[figure.ratio(case)] = round(ours[0] / rival, 3)
    return ratios


def results(machine: Mapping[str, Any], cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of results.json."""
    cases = list(cases)
    ratios = {key: ratio for case in cases for key, ratio in case["ratios"].items()}
    return {"machine": dict(machine), "ratios": ratios, "cases": cases}

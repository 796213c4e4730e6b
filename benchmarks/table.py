"""The results in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.cases import FIGURES, OURS, PEERS, Figure

BUSY = 0.1
"""The share of the cores that other processes had, from which the machine was not at rest."""
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
"""What the table stands between in README.md."""
HEADS = ["case", "figure", "ours", *PEERS.values(), "ours / best peer"]
CURVE_HEADS = ["ours alone", "figure", "value"]


def written(cases: Iterable[Mapping[str, Any]]) -> str:
    """All cases: what is compared, what is ours alone, the reasons for what is missing."""
    compared: list[list[str]] = []
    alone: list[list[str]] = []
    notes: list[str] = []
    for case in cases:
        curve = any(name not in FIGURES for name in report.figure_names(case["measured"]))
        lines = points(case) if curve else figures(case)
        # A case is named once, so that its lines are seen together.
        named = [[case["name"] if number == 0 else "", *line] for number, line in enumerate(lines)]
        (alone if curve else compared).extend(named)
        notes += notes_of(case, curve)
    parts = []
    if compared:
        parts.append(aligned(HEADS, compared))
    if alone:
        parts.append(aligned(CURVE_HEADS, alone))
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def aligned(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


def figures(case: Mapping[str, Any]) -> list[list[str]]:
    """A line for each figure that is compared."""
    measured = case["measured"]
    lines = []
    for name in report.figure_names(measured):
        figure = FIGURES[name]
        ours = cell(report.best(measured, OURS, name), figure, absence(case, OURS))
        peers = [
            cell(report.best(measured, peer, name), figure, absence(case, peer)) for peer in PEERS
        ]
        ratio = case["ratios"].get(figure.ratio(case["name"]))
        lines.append([figure.unit, ours, *peers, f"{ratio:.2f}" if ratio else ""])
    absent = [absence(case, worker) for worker in (OURS, *PEERS)]
    return lines or [["", *absent, ""]]


def points(case: Mapping[str, Any]) -> list[list[str]]:
    """A line for each point of a curve."""
    found = case["measured"][OURS]["default"]["figures"]
    return [[name, f"{figure['median']:.3f}"] for name, figure in found.items()]


def cell(found: tuple[float, str] | None, figure: Figure, absent: str) -> str:
    """A median and whose variant it is, where there are several, or why there is none."""
    if not found:
        return absent
    decimals = figure.decimals or int(found[0] < 100)
    return f"{found[0]:,.{decimals}f}" + (f" ({found[1]})" if found[1] != "default" else "")


def absence(case: Mapping[str, Any], worker: str) -> str:
    """In a word or two, why a worker has no figure."""
    reasons = [why for who, why in case["missing"].items() if who.split("/")[0] == worker]
    words = [why.split(":")[0] for why in reasons]
    if "stopped" in words:
        return "too slow"
    return words[0] if words else "n/a"


def notes_of(case: Mapping[str, Any], curve: bool) -> list[str]:
    """Why variants are missing, those of one reason together, and whether the machine was busy."""
    together: dict[str, list[str]] = {}
    for who, why in case["missing"].items():
        if not (curve and why.startswith("n/a")):
            together.setdefault(why, []).append(who)
    notes = [f"* {case['name']}, {', '.join(who)}: {why}" for why, who in together.items()]
    others = case.get("others")
    if others is not None and others > BUSY:
        notes.append(
            f"* {case['name']}: busy machine, other processes had {others:.0%} of its cores"
        )
    return notes


def in_page(text: str, content: Mapping[str, Any]) -> str:
    """The text with the results between its markers; as it was where it has none."""
    if BEGIN not in text or END not in text:
        return text
    machine = content["machine"]
    parts = [f"{machine['cores']} cores", *machine["instructions"], machine["device"]]
    where = ", ".join([machine["processor"], *parts])
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n{where}\n\n{written(content['cases'])}\n{END}{after}"

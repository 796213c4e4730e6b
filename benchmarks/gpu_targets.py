"""What the table of a GPU is held against, and its rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.cases import FIGURES, OURS

UNITS = {
    "first_step_s": ("s, first step cold", False),
    "step_ms": ("ms a step", False),
    "seconds": ("s, command to end", False),
    "first_steps_seconds": ("s in first steps", False),
    **{name: (figure.unit, figure.higher_is_better) for name, figure in FIGURES.items()},
}
"""The figures with their units, and whether more is better."""
VALUES: dict[tuple[str, str], float] = {
    ("first/12 layers of 768", "first_step_s"): 15,
    ("demo", "seconds"): 30,
    ("step/full/8x1024", "tokens_per_second"): 300_000,
}
"""What a figure of ours should be on an H100: at most, or at least where more is better."""
RATIOS: dict[tuple[str, str], float] = {
    ("step/lora/8x256", "tokens_per_second"): 2,
    ("step/lora/8x1024", "tokens_per_second"): 2,
    **{(f"epoch/{data}", "rows_per_second"): 4 for data in ("emotion", "rte", "alpaca")},
    **{
        (f"generate/{prompts}/bfloat16", figure): least
        for prompts, least in ((8, 2), (1, 3))
        for figure in ("tokens_per_second", "top_p_tokens_per_second")
    },
    **{(f"step/{name}", "peak_mb"): 1 for name in ("lora/8x256", "lora/8x1024", "full/8x1024")},
}
"""What ours over the best peer should be, alike."""
DEEP, SHALLOW = "first/36 layers of 1280", "first/12 layers of 768"
MOST_OF_DEPTH = 1.3
"""The first step of 774M over that of 124M."""
Entry = Mapping[str, Any]


def medians(entry: Entry, figure: str) -> dict[tuple[str, str], float]:
    """A figure of every worker's variant that has it."""
    return {
        (worker, variant): found["figures"][figure]["median"]
        for worker, variants in entry["measured"].items()
        for variant, found in variants.items()
        if figure in found["figures"]
    }


def ratio(entry: Entry, figure: str, variant: str) -> float | None:
    """A variant of ours over the best of the peers; None where there is none."""
    found = medians(entry, figure)
    peers = [value for (worker, _), value in found.items() if worker != OURS]
    mine = found.get((OURS, variant))
    if mine is None or not peers:
        return None
    return mine / (max(peers) if UNITS[figure][1] else min(peers))


def as_rows(found: Sequence[Entry]) -> Iterator[list[str]]:
    """For every figure of every variant its unit, whose it is, value, ratio and target."""
    for entry in found:
        for figure, (unit, _) in UNITS.items():
            for (worker, variant), value in medians(entry, figure).items():
                mine = worker == OURS
                over = ratio(entry, figure, variant) if mine else None
                shown = f"{over:.2f}" if over else ""
                target = target_of(entry["name"], figure) if mine else ""
                yield [entry["name"], unit, f"{worker}/{variant}", cell(value), shown, target]
        for who, why in entry["missing"].items():
            if not why.startswith("n/a"):
                yield [entry["name"], "", who, why, "", ""]


def target_of(name: str, figure: str) -> str:
    """As the table has it; empty where a figure has none."""
    sign = "≥" if UNITS[figure][1] else "≤"
    if (name, figure) in VALUES:
        return f"{sign} {cell(VALUES[name, figure])}"
    if (name, figure) in RATIOS:
        return f"{sign} {RATIOS[name, figure]:g} x the peer"
    return f"≤ {MOST_OF_DEPTH} x 124M's" if (name, figure) == (DEEP, "first_step_s") else ""


def missed(found: Sequence[Entry]) -> Iterator[str]:
    """A line for each target that the best of our variants misses, or that was not measured."""
    entries = merged(found)
    for (name, figure), target in VALUES.items():
        yield from verdict(name, figure, best(entries, name, figure), target)
    for (name, figure), target in RATIOS.items():
        yield from verdict(name, figure, best_ratio(entries, name, figure), target)
    deep, shallow = (best(entries, name, "first_step_s") for name in (DEEP, SHALLOW))
    over = deep / shallow if deep and shallow else None
    yield from verdict(DEEP, "first_step_s", over, MOST_OF_DEPTH)


def verdict(name: str, figure: str, value: float | None, target: float) -> Iterator[str]:
    """A line unless the target is reached."""
    unit, more = UNITS[figure]
    if value is None:
        yield f"not measured: {name}, {unit}"
    elif value < target if more else value > target:
        yield f"misses its target: {name}, {unit}: {cell(value)}, not {cell(target)}"


def merged(found: Sequence[Entry]) -> dict[str, Entry]:
    """Entries of one name as one, with the variants of all."""
    entries: dict[str, Any] = {}
    for entry in found:
        mine = entries.setdefault(entry["name"], {"measured": {}})["measured"]
        for worker, variants in entry["measured"].items():
            mine[worker] = {**mine.get(worker, {}), **variants}
    return entries


def best(entries: Mapping[str, Entry], name: str, figure: str) -> float | None:
    """The best of our variants."""
    found = medians(entries[name], figure) if name in entries else {}
    values = [value for (worker, _), value in found.items() if worker == OURS]
    return (max if UNITS[figure][1] else min)(values, default=None)


def best_ratio(entries: Mapping[str, Entry], name: str, figure: str) -> float | None:
    """That of the best of our variants over the best peer."""
    variants = entries[name]["measured"].get(OURS, {}) if name in entries else {}
    ratios = [over for variant in variants if (over := ratio(entries[name], figure, variant))]
    return (max if UNITS[figure][1] else min)(ratios, default=None)


def cell(value: float) -> str:
    """With three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""What is measured: the cases, who takes part in each, and what their figures mean."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

OURS = "ours"
PEERS = {"hf": "transformers + PEFT", "kerashub": "KerasHub"}
"""The peers by the name of their worker."""

PRECISIONS = ("float32", "bfloat16")
LORA = {"rank": 8, "alpha": 16}
"""On attn.c_attn and attn.c_proj, without dropout of its own, which KerasHub's has not."""
STEP = {"batch": 8, "length": 256, "prompt": 128}
"""Rows, tokens of a row, and how many of those are not supervised."""
GENERATE = {"prompt": 64, "new": 64, "top_p": 0.9}

PREPARED = "rows.npz"
"""Where a case of real data finds its tokenised rows."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """What a worker's figure means."""

    unit: str
    higher_is_better: bool
    suffix: str = ""
    """What the name of its ratio ends with, after the case's; the main figure's has none."""
    decimals: int = 0
    """In the table; 0 shows one for values below 100."""
    once: bool = False
    """Whether one value stands for a process's whole life, its last."""
    source: str = ""
    """What workers call it, where that is not its own name."""
    grouped: bool = False
    """Whether variants that group rows by length count."""

    def ratio(self, case: str) -> str:
        """The name of its ratio."""
        return f"{case}/{self.suffix}" if self.suffix else case


FIGURES = {
    "tokens_per_second": Figure("tokens/s", True),
    "rows_per_second": Figure("rows/s", True),
    "grouped_rows_per_second": Figure(
        "rows/s, grouping by length allowed",
        True,
        "grouped",
        source="rows_per_second",
        grouped=True,
    ),
    "start_seconds": Figure("s to the first step", False, decimals=1),
    "peak_mb": Figure("MB at the peak", False, "memory", once=True),
    "first_epoch_rows_per_second": Figure("rows/s in the first epoch", True, "first_epoch"),
    "top_p_tokens_per_second": Figure("tokens/s, top-p", True, "top_p"),
    "first_token_seconds": Figure("s to the first token", False, "first_token", 3),
}
"""Those that are compared; a figure of another name is a point of a curve, ours alone."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    kind: str
    """Which function of a worker measures it."""
    settings: Mapping[str, Any]
    """What that function is told."""
    variants: Mapping[str, tuple[str, ...]]
    """For each worker its settings to try, each a word or several joined by "-". All of them run
    in the first round, from the second on the fastest one alone; of those with the word "grouped"
    the fastest one too."""
    lacking: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Why a worker has no part in it."""
    data: str | None = None
    """The data set it needs, a folder of --data."""
    rounds: int = 0
    """The most that are measured; 0: as many as are asked for."""

    @property
    def fresh(self) -> bool:
        """Whether getting ready is all that is measured, with a new process each round."""
        return self.kind in ("start", "padding")

    @property
    def noun(self) -> str:
        """What a worker that is too slow is still without."""
        return {"step": "a step", "start": "a step", "epoch": "an epoch"}.get(self.kind, "a result")


def is_grouped(variant: str) -> bool:
    """Whether it brings rows of like length together in a batch."""
    return "grouped" in variant.split("-")


LLAMA = {"family": "llama"}
NOT_GPT2 = {"kerashub": "GPT-2 alone is compared with it"}
CURVE = dict.fromkeys(PEERS, "a curve of ours alone")


def step_cases() -> Iterable[Case]:
    """Training steps, and the time to the first one."""
    variants: dict[str, dict[str, tuple[str, ...]]] = {
        # weights: the frozen ones held in bfloat16; autocast and mixed: all in float32.
        "lora/float32": {"hf": ("eager", "compile"), "kerashub": ("plain", "xla")},
        "lora/bfloat16": {
            "hf": ("autocast", "weights", "weights-compile"),
            "kerashub": ("mixed", "mixed-xla", "weights", "weights-xla"),
        },
        "full/float32": {"hf": ("eager", "compile"), "kerashub": ("plain", "xla")},
        "full/bfloat16": {
            "hf": ("autocast", "autocast-compile"),
            "kerashub": ("mixed", "mixed-xla"),
        },
    }
    for name, peers in variants.items():
        tuning, precision = name.split("/")
        settings = {**STEP, "tuning": tuning, "precision": precision, "lora": LORA}
        yield Case(f"step/{name}", "step", settings, {OURS: ("default",), **peers})
    settings = {**STEP, **LLAMA, "tuning": "lora", "precision": "float32", "lora": LORA}
    taking_part = {OURS: ("default",), "hf": ("eager", "compile")}
    yield Case("step/llama-lora/float32", "step", settings, taking_part, NOT_GPT2)
    settings = {**STEP, "tuning": "lora", "precision": "bfloat16", "lora": LORA}
    # float32 in a bfloat16 case, as in those of epochs: on a CPU without units for bfloat16 it is
    # the faster one, and PyTorch's bfloat16 is too slow to be measured.
    started = {
        OURS: ("default",),
        "hf": ("weights", "float32"),
        "kerashub": ("mixed", "mixed-xla"),
    }
    yield Case("start", "start", settings, started, rounds=3)


def data_cases() -> Iterable[Case]:
    """Epochs over real rows, and their preparation."""
    # classes 0: a language model.
    for data, batch, rows, classes in (
        ("emotion", 32, 512, 6),
        ("rte", 16, 128, 2),
        ("alpaca", 8, 64, 0),
    ):
        settings = {
            "precision": "bfloat16",
            "tuning": "lora",
            "lora": LORA,
            "batch": batch,
            "rows": rows,
            "classes": classes,
        }
        variants = {
            OURS: ("default", "float32"),
            # Rows padded to the longest of their batch, drawn at random or of like length.
            "hf": ("weights", "float32", "weights-grouped", "float32-grouped"),
            "kerashub": ("mixed-dynamic", "float32-dynamic", "mixed-fixed-xla"),
        }
        yield Case(f"epoch/{data}", "epoch", settings, variants, data=data, rounds=3)
    variants = {OURS: ("default",), "hf": ("default", "cores"), "kerashub": ("default",)}
    yield Case("prepare", "prepare", {"length": 128}, variants, data="emotion")


def generate_cases() -> Iterable[Case]:
    """Continuations of 1 prompt and of 8."""
    for batch in (1, 8):
        for precision in PRECISIONS:
            settings = {**GENERATE, "batch": batch, "precision": precision}
            variants = {
                OURS: ("default",),
                "hf": ("eager", "compile"),
                "kerashub": ("plain", "xla"),
            }
            yield Case(f"generate/{batch}/{precision}", "generate", settings, variants)
        settings = {**GENERATE, **LLAMA, "batch": batch, "precision": "float32"}
        variants = {OURS: ("default",), "hf": ("eager", "compile")}
        yield Case(f"generate/llama-{batch}/float32", "generate", settings, variants, NOT_GPT2)


def curve_cases() -> Iterable[Case]:
    """How our own figures grow."""
    ours = {OURS: ("default",)}
    base = {**STEP, "tuning": "lora", "precision": "bfloat16", "lora": LORA}
    lengths = {**base, "batch": 2, "axis": "length", "points": [128, 256, 512, 1024]}
    yield Case("scaling/length", "scaling", lengths, ours, CURVE, rounds=3)
    batches = {**base, "axis": "batch", "points": [1, 2, 4, 8, 16, 32]}
    yield Case("scaling/batch", "scaling", batches, ours, CURVE, rounds=3)
    rows = {**base, "batch": 32, "classes": 6, "rows": 256, "points": [64, 128, 256]}
    yield Case("scaling/rows", "scaling_rows", rows, ours, CURVE, data="emotion", rounds=3)
    for data, batch in (("emotion", 32), ("rte", 16), ("alpaca", 8)):
        classes = 0 if data == "alpaca" else 2
        settings = {"batch": batch, "rows": 10**6, "classes": classes}
        yield Case(f"padding/{data}", "padding", settings, ours, CURVE, data=data, rounds=1)


CASES = {
    case.name: case
    for make in (step_cases, data_cases, generate_cases, curve_cases)
    for case in make()
}


TRIAL = {"batch": 2, "length": 32, "prompt": 16, "new": 8, "rows": 8}
"""The most that a setting may be in a trial."""


def reduced(case: Case) -> Case:
    """The same case on next to no data, to see that it runs."""
    settings = {
        name: min(value, TRIAL[name]) if name in TRIAL else value
        for name, value in case.settings.items()
    }
    if "points" in settings:
        settings["points"] = [4, 8]
    return dataclasses.replace(case, settings=settings)


def chosen(patterns: Iterable[str]) -> list[Case]:
    """The cases of these names, where * and ? may stand for others; all without any.

    Raises:
        KeyError: a pattern fits no case; its argument is the pattern.
    """
    names: list[str] = []
    for pattern in patterns:
        found = fnmatch.filter(CASES, pattern)
        if not found:
            raise KeyError(pattern)
        names += found
    return [CASES[name] for name in dict.fromkeys(names or CASES)]

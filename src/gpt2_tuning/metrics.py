"""Scores of a classifier's predictions, with what they are worth: an interval and a baseline.

The accuracy is a proportion, whose interval Wilson's formula gives, also where no answer is wrong.
Every other figure follows from the confusion matrix, so a bootstrap need not draw examples: how
often each cell is drawn is multinomial, and thousands of resamples are one array.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

RESAMPLES = 2000
COVERAGE = 0.95
INTERVAL_METHOD = (
    f"accuracy: {COVERAGE:.0%} Wilson score interval; "
    f"others: {COVERAGE:.0%} percentile bootstrap, {RESAMPLES} resamples"
)
CELLS_AT_ONCE = 1_000_000
"""Numbers in memory at once; a hundred classes have ten thousand in each resample."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One score between its bounds, and what answering always the same class would score."""

    title: str
    value: float
    low: float
    high: float
    baseline: float

    @property
    def beats_baseline(self) -> bool:
        """Whether the whole interval lies above the baseline."""
        return self.low > self.baseline

    @property
    def falls_below_baseline(self) -> bool:
        """Whether the whole interval lies below the baseline."""
        return self.high < self.baseline


@dataclasses.dataclass(frozen=True)
class ClassificationScores:
    """What a split's predictions come to; `confusion` is int [classes, classes], rows are true."""

    examples: int
    figures: dict[str, Figure]
    """`accuracy`, `macro_f1` and `mcc`; with two classes also `f1`, that of the second."""
    baseline_class: str
    report: str
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.figures["accuracy"].value

    def to_dict(self) -> dict[str, Any]:
        """The figures as they go into a JSON file."""
        named = self.figures.items()
        return {
            "examples": self.examples,
            **{name: figure.value for name, figure in named},
            "intervals": {name: [figure.low, figure.high] for name, figure in named},
            "interval_method": INTERVAL_METHOD,
            "baseline": {
                "always": self.baseline_class,
                **{name: figure.baseline for name, figure in named},
            },
            "confusion": self.confusion.tolist(),
        }


def shown_interval(low: float, high: float) -> str:
    """An interval for people; a bootstrap in which all resamples score the same shows none."""
    return f"{low:.4f} to {high:.4f}" if low < high else "no interval"


def scores_as_json(scores: Mapping[str, Any]) -> str:
    """The text of a JSON file of figures; a NaN among them, which JSON has not, is a ValueError."""
    return json.dumps(scores, indent=2, allow_nan=False) + "\n"


def classification_scores(
    labels: np.ndarray,
    predicted: np.ndarray,
    label_names: Sequence[str],
    baseline_class: int | None = None,
    seed: int = 0,
) -> ClassificationScores:
    """Scores integer predictions [N] against integer labels [N], N at least 1.

    The interval of the accuracy is Wilson's, the others are those of the percentile bootstrap over
    examples (Efron & Tibshirani 1993, chapter 13): they show what another sample of so many
    examples might give, and not what another training run might.

    Args:
        labels: the true classes.
        predicted: the answers.
        label_names: the classes' names.
        baseline_class: the class a baseline always answers: the commonest in training; None is
            the commonest of `labels`.
        seed: of the bootstrap.
    """
    every = list(range(len(label_names)))
    confusion = confusion_matrix(labels, predicted, labels=every)
    if baseline_class is None:
        baseline_class = int(confusion.sum(axis=1).argmax())
    always = np.zeros_like(confusion)
    always[:, baseline_class] = confusion.sum(axis=1)
    values, baselines = figures_of(confusion), figures_of(always)
    drawn = bootstrap_figures(confusion, RESAMPLES, seed)
    bounds = {name: interval(drawn[name]) for name in values}
    bounds["accuracy"] = wilson_interval(int(np.trace(confusion)), len(labels))
    figures = {
        name: Figure(title, float(values[name]), *bounds[name], float(baselines[name]))
        for name, title in ((name, title_of(name, label_names)) for name in values)
    }
    return ClassificationScores(
        examples=len(labels),
        figures=figures,
        baseline_class=label_names[baseline_class],
        report=classification_report(
            labels,
            predicted,
            labels=every,
            target_names=list(label_names),
            zero_division=0,
            digits=3,
        ),
        confusion=confusion,
    )


def title_of(name: str, label_names: Sequence[str]) -> str:
    """What people call a score."""
    titles = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC"}
    return titles.get(name) or f"F1 of {label_names[1]!r}"


def figures_of(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """The scores, by name, of confusion matrices [..., classes, classes], rows being true.

    A class that is neither there nor answered has an F1 of 0. MCC is Matthews' correlation
    coefficient for any number of classes (Gorodkin 2004): 0 where all answers, or all true
    classes, are the same.
    """
    counts = confusion.astype(np.float64)
    total = counts.sum(axis=(-2, -1))
    right = np.trace(counts, axis1=-2, axis2=-1)
    true, answered = counts.sum(axis=-1), counts.sum(axis=-2)  # [..., classes]
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    f1 = 2 * hits / np.maximum(true + answered, 1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (answered**2).sum(axis=-1))
    covariance = right * total - (true * answered).sum(axis=-1)
    figures = {
        "accuracy": right / total,
        "macro_f1": f1.mean(axis=-1),
        "mcc": covariance / np.sqrt(np.maximum(spread, 1)),
    }
    if confusion.shape[-1] == 2:
        figures["f1"] = f1[..., 1]
    return figures


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The Wilson score interval (Wilson 1927) of a proportion; `total` is at least 1.

    A bootstrap of nothing but hits knows nothing else: of 30 it says 1 to 1, this 0.886 to 1.
    """
    z = statistics.NormalDist().inv_cdf((1 + COVERAGE) / 2)
    share, scale = hits / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    low = 0.0 if hits == 0 else centre - half
    return low, 1.0 if hits == total else centre + half


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Between which values COVERAGE of the resamples' figures [N] lie."""
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_figures(confusion: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """The scores, float64 [count] each, of as many examples drawn with replacement."""
    generator = np.random.default_rng(seed)
    cells, examples = confusion.ravel() / confusion.sum(), int(confusion.sum())
    chunk = max(1, CELLS_AT_ONCE // confusion.size)
    parts = []
    for start in range(0, count, chunk):
        drawn = generator.multinomial(examples, cells, size=min(chunk, count - start))
        parts.append(figures_of(drawn.reshape(-1, *confusion.shape)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

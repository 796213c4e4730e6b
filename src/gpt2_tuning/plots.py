"""Pictures of a run: its curves, and of a split what a classifier confuses and how sure it is."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gpt2_tuning.calibration import BINS, Calibration
from gpt2_tuning.files import write_bytes
from gpt2_tuning.metrics import wilson_interval

TRAIN_COLOR, VALIDATION_COLOR = "#4c72b0", "#dd8452"
QUIET_COLOR = "#666666"
LONGEST_NAME = 24
"""Characters of a class's name that there is room for."""
LEGIBLE_CLASSES = 100
"""Up to so many a confusion matrix has names and counts; above it is shades alone."""


def plot_curves(
    history: Sequence[Mapping[str, float]],
    path: Path,
    *,
    unit: str,
    kept: float,
    baseline: Mapping[str, float],
    baseline_name: str,
    accuracy_name: str = "accuracy",
    training: str = "dropout on",
) -> None:
    """Loss and accuracy of training and validation by epoch or update, as a PNG.

    Args:
        history: a row of figures for each validation.
        path: the file.
        unit: what the run is counted in, `epoch` or `update`.
        kept: of these, after how many the weights were kept, which a line marks.
        baseline: the `loss` and the `accuracy` on validation that are to be beaten.
        baseline_name: whose those are.
        accuracy_name: what the accuracy is one of.
        training: how training's figures differ from those of validation.
    """
    places = [row[unit] for row in history]
    beside = max(0.5, (places[-1] - places[0]) / 40)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    size = 5 if len(places) <= 20 else 2.5
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for key, label, color in (
            (name, f"training ({training})", TRAIN_COLOR),
            (f"val_{name}", "validation", VALIDATION_COLOR),
        ):
            values = [row[key] for row in history]
            axis.plot(places, values, "o-", color=color, label=label, markersize=size)
        behind: dict[str, Any] = {"color": QUIET_COLOR, "lw": 1, "zorder": 1}
        axis.axvline(kept, ls=":", label=f"{unit} {kept:g}, kept", **behind)
        axis.axhline(baseline[name], ls="--", label=baseline_name, **behind)
        axis.set(
            xlabel=unit,
            title=accuracy_name if name == "accuracy" else name,
            xlim=(places[0] - beside, places[-1] + beside),
        )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.margins(y=0.1)
        plain(axis)
    shown = axes[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


def plot_confusion(
    confusion: np.ndarray, label_names: Sequence[str], path: Path, split: str
) -> None:
    """Counts by true (row) and predicted (column) class, shaded by the row's share, as a PNG.

    Args:
        confusion: int [classes, classes], rows are true.
        label_names: the classes.
        path: the file.
        split: what was scored, for the title.
    """
    count = len(label_names)
    cell = max(0.26, min(0.65, 13 / count))  # inches, as long as what is in it can be read
    legible = count <= LEGIBLE_CLASSES
    side = 2.2 + (cell * count if legible else 8)
    font = min(10, 26 * cell)
    figure, axis = plt.subplots(figsize=(side + 0.8 * (count > 2), side), layout="constrained")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(titled("confusion matrix", split, int(confusion.sum())), fontsize=11)
    if legible:
        names = [shortened(name) for name in label_names]
        turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(count), names, fontsize=font, parse_math=False, **turned)
        axis.set_yticks(range(count), names, fontsize=font, parse_math=False)
        # Among many classes zeros would hide the others.
        for row, column in np.argwhere(confusion > (0 if count > 20 else -1)).tolist():
            color = "white" if shares[row, column] > 0.65 else "black"
            number = f"{confusion[row, column]:,}"
            axis.text(column, row, number, ha="center", va="center", color=color, fontsize=font)
    if count > 2:
        figure.colorbar(image, label="share of the true class", shrink=0.7)
    save(figure, path)


def plot_calibration(calibration: Calibration, path: Path, split: str) -> None:
    """A reliability diagram: how often answers of each confidence are right, as a PNG.

    Whiskers are 95 % Wilson intervals; below is how many answers there are of each confidence.

    Args:
        calibration: of the split's answers.
        path: the file.
        split: what was scored, for the title.
    """
    filled = np.flatnonzero(calibration.counts)
    counts, right = calibration.counts[filled], calibration.right[filled]
    shares, confidence = right / counts, calibration.confidence_sums[filled] / counts
    bounds = [wilson_interval(*pair) for pair in zip(right.tolist(), counts.tolist(), strict=True)]
    whiskers = np.abs(np.array(bounds).T - shares)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(4.8, 5.6), sharex=True, height_ratios=[3.2, 1], layout="constrained"
    )
    above.plot([0, 1], [0, 1], "--", color=QUIET_COLOR, lw=1, label="perfect calibration")
    style = {"fmt": "o", "ms": 5, "capsize": 2, "lw": 1.2, "color": TRAIN_COLOR, "clip_on": False}
    above.errorbar(confidence, shares, whiskers, label="answers, 95 % intervals", **style)
    above.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    what = titled("calibration", split, int(calibration.counts.sum()))
    error = f"expected calibration error {calibration.error:.3f}, {BINS} bins"
    above.set_title(f"{what}\n{error}", fontsize=11)
    edges = np.arange(BINS) / BINS
    below.bar(edges, calibration.counts, 1 / BINS, align="edge", color=TRAIN_COLOR, ec="white")
    below.set(xlabel="confidence: probability of the answer", ylabel="answers")
    below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for axis in (above, below):
        plain(axis)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def titled(what: str, split: str, examples: int) -> str:
    """The title of a picture of one split."""
    return f"{what}: {split}, {examples:,} example{'s' * (examples != 1)}"


def shortened(name: str) -> str:
    """A class's name as far as there is room for it: without its middle, if need be."""
    return name if len(name) <= LONGEST_NAME else f"{name[:14]}…{name[14 - LONGEST_NAME + 1 :]}"


def plain(axis: Axes) -> None:
    """A light grid and no frame above and at the right."""
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: plt.Figure, path: Path) -> None:
    """Writes the PNG in one step and frees the figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, bbox_inches="tight")
    plt.close(figure)
    write_bytes(path, content.getvalue())

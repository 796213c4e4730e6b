"""Pictures of a run: its curves, and what a classifier confuses."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from gpt2_tuning.files import write_bytes

TRAIN_COLOR, VALIDATION_COLOR = "#4c72b0", "#dd8452"


def plot_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Loss and accuracy of training and validation by epoch, as a PNG."""
    epochs = [row["epoch"] for row in history]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for key, label, color in (
            (name, "training (dropout on)", TRAIN_COLOR),
            (f"val_{name}", "validation", VALIDATION_COLOR),
        ):
            axis.plot(epochs, [row[key] for row in history], "o-", color=color, label=label)
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    save(figure, path)


def plot_confusion(confusion: np.ndarray, label_names: Sequence[str], path: Path) -> None:
    """Counts by true (row) and predicted (column) class, shaded by the row's share, as a PNG."""
    count = len(label_names)
    side = min(2.5 + 0.7 * count, 14)
    figure, axis = plt.subplots(figsize=(side, side * 0.85), layout="constrained")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(count), label_names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(count), label_names)
    axis.set(xlabel="predicted", ylabel="true")
    for row in range(count):
        for column in range(count):
            dark = shares[row, column] > 0.5
            axis.text(
                column,
                row,
                f"{confusion[row, column]:,}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
    figure.colorbar(image, label="share of the true class", shrink=0.85)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """Writes the PNG in one step and frees the figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, bbox_inches="tight")
    plt.close(figure)
    write_bytes(path, content.getvalue())

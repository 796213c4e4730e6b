"""Scores against hand-counted cases, and pictures that are really drawn."""

import numpy as np
import pytest

from gpt2_tuning.metrics import classification_scores
from gpt2_tuning.plots import plot_confusion, plot_curves


def test_scores_of_a_hand_counted_case():
    labels, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    scores = classification_scores(labels, predicted, ["a", "b", "c"])
    assert scores.accuracy == pytest.approx(3 / 6)
    # F1: a 2*1/(3+2), b 2*2/(3+3), c 0
    assert scores.macro_f1 == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert scores.confusion.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 0]]


def test_a_class_that_never_occurs_still_has_its_place():
    scores = classification_scores(np.array([0, 0]), np.array([0, 0]), ["a", "never"])
    assert scores.confusion.shape == (2, 2)
    assert "never" in scores.report


def test_pictures_are_png_files_with_content(tmp_path):
    history = [
        {"epoch": e, "loss": 1 / e, "val_loss": 1.1 / e, "accuracy": 0.5, "val_accuracy": 0.4}
        for e in (1, 2)
    ]
    plot_curves(history, tmp_path / "curves.png")
    plot_confusion(np.array([[3, 1], [0, 4]]), ["no", "yes"], tmp_path / "confusion.png")
    for name in ("curves.png", "confusion.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000

"""Scores against hand-counted cases, and intervals against published ones."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from gpt2_tuning.metrics import (
    bootstrap_figures,
    classification_scores,
    scores_as_json,
    shown_interval,
    wilson_interval,
)


def test_scores_of_a_hand_counted_case():
    labels, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    scores = classification_scores(labels, predicted, ["a", "b", "c"])
    assert scores.accuracy == pytest.approx(3 / 6)
    # F1: a 2*1/(3+2), b 2*2/(3+3), c 0
    assert scores.figures["macro_f1"].value == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert scores.confusion.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 0]]


def test_a_class_that_never_occurs_still_has_its_place():
    scores = classification_scores(np.array([0, 0]), np.array([0, 0]), ["a", "never"])
    assert scores.confusion.shape == (2, 2)
    assert "never" in scores.report


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_figures_equal_scikit_learns(classes):
    rng = np.random.default_rng(classes)
    labels, predicted = rng.integers(0, classes, (2, 50))
    predicted = np.where(rng.random(50) < 0.5, labels, predicted)
    names = [f"c{index}" for index in range(classes)]
    figures = classification_scores(labels, predicted, names).figures
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "mcc": matthews_corrcoef(labels, predicted),
    }
    if classes == 2:
        expected["f1"] = f1_score(labels, predicted)
        assert figures["f1"].title == "F1 of 'c1'"
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(expected)


def test_baseline_always_answers_the_class_that_training_had_most_of():
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    scores = classification_scores(labels, predicted, ["a", "b"], baseline_class=1)
    assert scores.baseline_class == "b"
    assert {name: figure.baseline for name, figure in scores.figures.items()} == pytest.approx(
        {"accuracy": 1 / 4, "macro_f1": (0 + 2 / 5) / 2, "mcc": 0, "f1": 2 / 5}
    )
    assert classification_scores(labels, predicted, ["a", "b"]).baseline_class == "a"


def test_bootstrap_draws_examples_as_drawing_them_one_by_one_would():
    """Counts of cells are multinomial, so their figures are those of examples drawn singly."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, (2, 40))
    confusion = np.zeros((3, 3), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    fast = bootstrap_figures(confusion, 4000, seed=1)
    drawn = rng.integers(0, 40, (400, 40))
    slow = {
        "accuracy": [accuracy_score(labels[rows], predicted[rows]) for rows in drawn],
        "mcc": [matthews_corrcoef(labels[rows], predicted[rows]) for rows in drawn],
    }
    for name, values in slow.items():
        ends = [2.5, 50, 97.5]
        np.testing.assert_allclose(
            np.percentile(fast[name], ends), np.percentile(values, ends), atol=0.06
        )


def test_interval_of_the_accuracy_has_the_width_that_theory_gives():
    right = np.arange(400) < 300
    scores = classification_scores(np.zeros(400, int), np.where(right, 0, 1), ["a", "b"])
    accuracy = scores.figures["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.008)
    assert not accuracy.beats_baseline


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (30, 30, 0.8865, 1.0),
    ],
)
def test_wilson_intervals_are_the_published_ones(hits, total, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I; the last is 30 / (30 + 1.96^2)."""
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=6e-5)


def test_without_a_mistake_the_accuracy_has_an_interval_and_no_other_figure_pretends_one():
    labels = np.arange(30) % 3
    figures = classification_scores(labels, labels, ["a", "b", "c"]).figures
    shown = {name: shown_interval(figure.low, figure.high) for name, figure in figures.items()}
    assert shown == {
        "accuracy": "0.8865 to 1.0000",
        "macro_f1": "no interval",
        "mcc": "no interval",
    }


def test_intervals_repeat_whatever_the_chunks(monkeypatch):
    labels, predicted = np.random.default_rng(2).integers(0, 4, (2, 30))
    once = classification_scores(labels, predicted, "abcd").to_dict()
    monkeypatch.setattr("gpt2_tuning.metrics.CELLS_AT_ONCE", 16 * 300)
    assert classification_scores(labels, predicted, "abcd").to_dict() == once
    assert once["intervals"]["accuracy"][0] < once["accuracy"] < once["intervals"]["accuracy"][1]


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("count", [1, 5])
def test_every_figure_of_a_split_of_one_class_is_a_number(answer, count):
    """MCC of one class is 0, as scikit-learn has it, be all answers right or wrong."""
    labels, predicted = np.zeros(count, int), np.full(count, answer)
    scores = classification_scores(labels, predicted, ["a", "b"]).to_dict()
    text = scores_as_json(scores)
    assert json.loads(text) == scores
    assert (scores["mcc"], scores["accuracy"]) == (0.0, 1.0 - answer)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_figure_that_json_has_not_is_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        scores_as_json({"intervals": {"mcc": [0.0, value]}})

"""The expected calibration error against a case counted by hand."""

import numpy as np
import pytest

from gpt2_tuning.calibration import BINS, calibration


def test_the_error_of_a_case_counted_by_hand():
    """Two answers share the bin of 0.8 to 0.8667, one of them right; one is alone in another."""
    probabilities = np.array([[0.82, 0.18], [0.16, 0.84], [0.45, 0.55], [1.0, 0.0]])
    found = calibration(probabilities, np.array([0, 0, 1, 0]))
    # |1 - (0.82 + 0.84)| / 4 + |1 - 0.55| / 4 + |1 - 1| / 4
    assert found.error == pytest.approx((0.66 + 0.45 + 0) / 4)
    assert found.mean_confidence == pytest.approx((0.82 + 0.84 + 0.55 + 1) / 4)
    assert found.counts.sum() == 4
    assert found.to_dict()["bins"] == BINS == 15


def test_every_confidence_has_a_bin_and_an_edge_belongs_to_the_one_below():
    confidence = np.array([1e-9, 1 / 15, 2 / 15, 0.2001, 1.0])
    found = calibration(confidence[:, np.newaxis], np.zeros(5, int))
    assert np.flatnonzero(found.counts).tolist() == [0, 1, 3, 14]
    assert found.counts[0] == 2


def test_answers_as_sure_as_they_are_right_have_no_error():
    probabilities = np.tile([0.75, 0.25], (400, 1))
    found = calibration(probabilities, (np.arange(400) % 4 == 0).astype(int))
    assert found.error == pytest.approx(0)

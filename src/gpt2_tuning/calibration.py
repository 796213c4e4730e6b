"""How far a classifier's probabilities can be taken at their word."""

import dataclasses
from typing import Any

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Answers in BINS bins of the same width, by their confidence: the answer's probability.

    Bin m holds the confidences above m / BINS and up to (m + 1) / BINS.
    """

    counts: np.ndarray
    """int64 [BINS]: how many answers are in each."""
    right: np.ndarray
    """int64 [BINS]: how many of them are right."""
    confidence_sums: np.ndarray
    """float64 [BINS]: the sum of their confidences."""

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

        The mean, over all answers, of the distance between share of right answers and mean
        confidence in an answer's bin: 0 to 1.
        """
        return float(np.abs(self.right - self.confidence_sums).sum() / self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        """Over all answers; above their accuracy the model is too sure of itself."""
        return float(self.confidence_sums.sum() / self.counts.sum())

    def to_dict(self) -> dict[str, Any]:
        """The figures as they go into a JSON file."""
        return {
            "expected_calibration_error": self.error,
            "bins": BINS,
            "mean_confidence": self.mean_confidence,
        }


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Of the classes' probabilities [N, classes] and the true classes, int [N]; N at least 1."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return Calibration(
        counts=np.bincount(bins, minlength=BINS),
        right=np.bincount(bins[right], minlength=BINS),
        confidence_sums=np.bincount(bins, confidence, minlength=BINS),
    )

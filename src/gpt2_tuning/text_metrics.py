"""Scores of generated text against references."""

from collections.abc import Sequence

import numpy as np

from gpt2_tuning import extras
from gpt2_tuning.metrics import RESAMPLES, interval


def rouge_l(references: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """ROUGE-L (Lin 2004), the F-measure of the longest common subsequence of words: float64 [N].

    Raises:
        UserError: the extra with rouge-score is not installed.
    """
    extras.check_installed("rouge", "ROUGE-L")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(references, responses, strict=True)
    return np.array([scorer.score(*pair)["rougeL"].fmeasure for pair in pairs])


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the mean of values [N]."""
    drawn = np.random.default_rng(seed).choice(values, size=(RESAMPLES, len(values)))
    return interval(drawn.mean(axis=1))

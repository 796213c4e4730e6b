"""What a model is measured against: how often each answer came in training, and nothing read.

For classes the answers are labels; for language models tokens, which makes it a unigram model.
"""

import numpy as np

from gpt2_tuning.data.batch_arrays import spread, targets_at
from gpt2_tuning.data.tfrecords import Records

SMOOTHING = 0.1
"""Added to every count, so that what training never had is not impossible."""
ROWS_AT_ONCE = 4096


def frequency_figures(train: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """The mean `loss` and the `accuracy` of a split by the frequencies of the train split.

    The loss is that of the answers' shares in training, the accuracy that of its commonest answer.

    Args:
        train: how often each answer is in the train split, int [answers].
        counts: the same of the split, which has at least one.
    """
    smoothed = train + SMOOTHING
    total = counts.sum()
    return {
        "loss": float(-(counts * np.log(smoothed / smoothed.sum())).sum() / total),
        "accuracy": float(counts[train.argmax()] / total),
    }


def learnt_token_counts(records: Records, vocabulary: int) -> np.ndarray:
    """How often each token is learnt in a language model's split: int64 [vocabulary]."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(records), ROWS_AT_ONCE):
        row, place = spread(records.target_counts[start : start + ROWS_AT_ONCE])
        at = targets_at(records, start + row, place)
        counts += np.bincount(records.tokens[at], minlength=vocabulary)
    return counts

"""What a report says of an accuracy beside the baseline."""

import numpy as np
import pytest

from gpt2_tuning.metrics import classification_scores
from gpt2_tuning.training.evaluation import verdict


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (95, "whole interval of the accuracy lies above the baseline"),
        (55, "reaches down to the baseline"),
        (20, "lies below the baseline: always answering 'a' does better"),
    ],
)
def test_the_sentence_is_that_of_where_the_interval_lies(right, said):
    labels = np.arange(100) % 2
    predicted = np.where(np.arange(100) < right, labels, 1 - labels)
    assert said in verdict(classification_scores(labels, predicted, ["a", "b"]))

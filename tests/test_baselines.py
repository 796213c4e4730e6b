"""What a model is measured against, by hand, and by the batches that it learns from."""

import numpy as np
import pytest

from gpt2_tuning import baselines
from gpt2_tuning.baselines import frequency_figures, learnt_token_counts
from gpt2_tuning.data.batch_arrays import language_model_batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.tfrecords import Records


def test_figures_of_a_case_counted_by_hand(monkeypatch):
    monkeypatch.setattr(baselines, "SMOOTHING", 1)
    found = frequency_figures(np.array([5, 2, 0]), np.array([1, 2, 1]))
    # Shares of training: 6, 3 and 1 of 10; the commonest answer is right once in four.
    expected = -(np.log(0.6) + 2 * np.log(0.3) + np.log(0.1)) / 4
    assert found == {"loss": pytest.approx(expected), "accuracy": 0.25}


@pytest.mark.parametrize("at_once", [2, 4096])
def test_tokens_counted_are_the_targets_of_the_batches(monkeypatch, at_once):
    monkeypatch.setattr(baselines, "ROWS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 9, length).tolist() for length in (5, 3, 9, 2, 7)]
    records = Records.of(rows, prompt_length=np.array([2, 1, 8, 1, 3], np.int32))
    counts = np.zeros(12, int)
    for batch in BatchSource(records, 2, language_model_batch).in_order():
        np.add.at(counts, batch.targets[batch.weights > 0], 1)
    assert learnt_token_counts(records, 12).tolist() == counts.tolist()

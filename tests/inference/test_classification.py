"""Labels from a classifier: one for each text, in order, whatever the batching."""

import numpy as np
import pytest
from samples import randomize

from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.classification import classify_text, predict_probabilities
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier

TEXTS = ["i feel great", "what a dreadful, long and winding day this was", "ok", "<|endoftext|>"]


@pytest.fixture
def model(text_config):
    return randomize(GPT2Classifier(text_config, label_names=["bad", "good"]).built_now())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batching_does_not_change_a_prediction(model, batch_size):
    alone = [classify_text(model, [text])[0] for text in TEXTS]
    together = classify_text(model, TEXTS, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert one.label == other.label
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-5)
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.label == max(one.probabilities, key=one.probabilities.__getitem__)


def test_probabilities_are_the_softmax_of_the_logits_in_the_rows_order(model):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50257, length).tolist() for length in (9, 2, 5)]
    found = predict_probabilities(model, Records.of(rows), batch_size=2)
    for row, probabilities in zip(rows, found, strict=True):
        inputs = {
            "token_ids": np.array([row], np.int32),
            "attention_mask": np.ones((1, len(row)), np.int32),
        }
        powers = np.exp(model(inputs).numpy()[0])
        np.testing.assert_allclose(probabilities, powers / powers.sum(), atol=1e-5)


def test_long_texts_are_cut_as_in_training(model):
    long = "one two three four five six seven eight"
    cut = classify_text(model, [long], seq_len=3)[0]
    assert cut == classify_text(model, ["one two three"])[0]


def test_no_texts_give_no_predictions(model):
    assert classify_text(model, []) == []


def test_an_empty_text_is_named(model):
    with pytest.raises(UserError, match="text 2 is empty"):
        classify_text(model, ["fine", " \n"])

"""Labels from a classifier: one for each text or pair, in order, whatever the batching."""

import numpy as np
import pytest
from samples import randomize

from gpt2_tuning.data.examples import joined_pair
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.inference.classification import (
    classify_pairs,
    classify_text,
    predict_probabilities,
)
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


PAIRS = [
    ("A cat sleeps on the mat.", "An animal rests."),
    ("ok", "The train was late because of the snow that fell all night long."),
    ("It rained.", "<|endoftext|>"),
]


def test_padding_does_not_change_what_is_said_of_a_pair(model):
    alone = [classify_pairs(model, [pair])[0].probabilities for pair in PAIRS]
    together = classify_pairs(model, PAIRS, batch_size=3)
    for one, other in zip(alone, together, strict=True):
        assert other.probabilities == pytest.approx(one, abs=1e-5)


def logits_of(model, ids):
    return model(
        {
            "token_ids": np.array([ids], np.int32),
            "attention_mask": np.ones((1, len(ids)), np.int32),
        }
    ).numpy()[0]


def test_swapping_the_texts_of_a_pair_changes_its_logits(model):
    first, second = [ids[:4] for ids in GPT2Tokenizer().encode_batch(PAIRS[0])]
    there = joined_pair(first, second, 64, END_OF_TEXT)
    back = joined_pair(second, first, 64, END_OF_TEXT)
    assert len(there) == len(back)
    assert np.abs(logits_of(model, there) - logits_of(model, back)).max() > 1e-3


def test_separator_is_seen(model):
    """Were it hidden as padding is, the token in its place could not matter."""
    ids = joined_pair([5, 6, 7], [8, 9], 64, END_OF_TEXT)
    other = [*ids[:3], 11, *ids[4:]]
    assert np.abs(logits_of(model, ids) - logits_of(model, other)).max() > 1e-3


def test_separator_written_in_a_text_is_text(model):
    """Only the one between the texts is the token 50256."""
    texts = ("before <|endoftext|> after", "<|endoftext|>")
    premise, hypothesis = GPT2Tokenizer().encode_batch(texts)
    ids = joined_pair(premise, hypothesis, 64, END_OF_TEXT)
    assert ids.count(END_OF_TEXT) == 1
    powers = np.exp(logits_of(model, ids))
    found = classify_pairs(model, [texts])[0].probabilities
    assert list(found.values()) == pytest.approx(powers / powers.sum(), abs=1e-5)


def test_long_pairs_are_trimmed_as_in_training(model):
    long = ("one two three four five six seven eight", "one two")
    cut = classify_pairs(model, [long], seq_len=6)
    assert cut == classify_pairs(model, [("one two three", "one two")])


def test_an_empty_text_of_a_pair_is_named(model):
    with pytest.raises(UserError, match="a text of pair 2 is empty"):
        classify_pairs(model, [("fine", "fine"), ("fine", " ")])
    assert classify_pairs(model, []) == []

"""The classifier: pooling by the mask, and logits that padding cannot change."""

import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.inputs import last_real_token

pytestmark = pytest.mark.usefixtures("all_bits")


@pytest.fixture
def model(small_config):
    return randomize(GPT2Classifier(small_config, 3).built_now())


def test_last_real_token_comes_from_the_mask():
    mask = tf.constant([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]])
    assert last_real_token(mask).numpy().tolist() == [1, 3, 0, 2]


def test_logits_of_a_text_are_the_same_alone_padded_and_in_a_mixed_batch(model):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 97, length).tolist() for length in (4, 9, 1)]
    alone = np.concatenate([model(inputs_of([row])).numpy() for row in rows])
    mixed = model(inputs_of(rows)).numpy()
    padded = np.concatenate([model(inputs_of([row], length=30)).numpy() for row in rows])
    np.testing.assert_allclose(mixed, alone, atol=1e-5)
    np.testing.assert_allclose(padded, alone, atol=1e-5)


def test_packed_texts_have_the_logits_they_have_alone_in_a_row_longer_than_the_positions(model):
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 97, length).tolist() for length in (40, 9, 30)]
    alone = np.concatenate([model(inputs_of([text])).numpy() for text in texts])
    assert sum(map(len, texts)) > model.config.n_positions
    packed = {
        "token_ids": tf.constant([[*texts[0], *texts[1], *texts[2]]]),
        "segment_ids": tf.constant([[1] * 40 + [2] * 9 + [3] * 30]),
        "last_positions": tf.constant([[39, 48, 78]]),
    }
    np.testing.assert_allclose(model(packed).numpy()[0], alone, atol=1e-5)


def test_a_padding_id_inside_the_text_is_seen(model):
    """The mask comes from lengths: the same id is padding behind the text and text within it."""
    with_pad, without = [5, 6, 7, 0], [5, 6, 7]
    seen = model(inputs_of([with_pad], pad=0)).numpy()
    assert np.abs(seen - model(inputs_of([without], pad=0)).numpy()).max() > 1e-3
    inside = model(inputs_of([[5, 0, 7]], length=8, pad=0)).numpy()
    assert np.abs(inside - model(inputs_of([[5, 7]], length=8, pad=0)).numpy()).max() > 1e-3


def test_score_has_no_bias_and_logits_are_float32(small_config):
    model = GPT2Classifier(small_config, 3, dtype="mixed_bfloat16").built_now()
    assert [weight.name for weight in model.score.weights] == ["kernel"]
    assert model(inputs_of([[1, 2]])).dtype == tf.float32


def test_exported_config_names_the_labels_and_the_padding(small_config):
    model = GPT2Classifier(small_config, label_names=["no", "yes"])
    assert model.hf_config()["id2label"] == {"0": "no", "1": "yes"}
    assert model.hf_config()["pad_token_id"] == END_OF_TEXT


def test_config_rebuilds_the_classifier(small_config):
    model = GPT2Classifier(small_config, label_names=["a", "b"], lora={"rank": 2, "alpha": 4})
    again = GPT2Classifier.from_config(model.get_config())
    assert (again.label_names, again.lora) == (model.label_names, model.lora)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a classifier needs num_classes, or label_names such as"),
        ({"num_classes": 1}, "two classes or more: num_classes is 1"),
        ({"num_classes": "3"}, "two classes or more: num_classes is '3'"),
        ({"num_classes": True}, "two classes or more: num_classes is True"),
        ({"label_names": ["a", "a"]}, "two classes or more, all different, not"),
        ({"label_names": "ab"}, "label_names must be a list, such as .*, not 'ab'"),
        ({"label_names": [1, 2]}, r"label_names must be a list, such as .*, not \[1, 2\]"),
        ({"label_names": 5}, "label_names must be a list, such as .*, not 5"),
        (
            {"num_classes": 3, "label_names": ["a", "b"]},
            "num_classes is 3, label_names has 2: a, b",
        ),
    ],
)
def test_impossible_classes_are_refused(small_config, arguments, message):
    with pytest.raises(UserError, match=message):
        GPT2Classifier(small_config, **arguments)

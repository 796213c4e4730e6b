"""A label that its row's head has no class for is refused before it is learnt as nothing."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, small_model

from gpt2_tuning.errors import UserError
from gpt2_tuning.models import label_range
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.label_range import BEYOND
from gpt2_tuning.training.objectives import CrossEntropy

CONFIG = dataclasses.replace(SMALL, n_layer=1)
ROWS = ["three", "nine", None]


@pytest.fixture(scope="module")
def model():
    """Of five classes, with adapters of three and of nine."""
    made = small_model(GPT2Classifier, CONFIG, label_names=list("abcde"))
    made.add_adapter("three", {"rank": 2}, list("xyz"))
    made.add_adapter("nine", {"rank": 2}, list("123456789"))
    made.compile("sgd", CrossEntropy(), jit_compile=False)
    return made


def inputs_of(model, adapters):
    """A batch under one adapter, or with one for each row."""
    if isinstance(adapters, list):
        return {**batch(SMALL), "gate": model.rows_gate(adapters)}
    model.set_adapter(adapters)
    return batch(SMALL)


CASES = [
    ("three", [0, 1, 2], None),
    ("three", [0, 1, 4], "label 4 of row 2 is beyond the 3 classes of its head"),
    ("nine", [0, 8, 3], None),
    ("nine", [9, 8, 3], "label 9 of row 0 is beyond the 9 classes of its head"),
    (None, [4, 5, 0], "label 5 of row 1 is beyond the 5 classes of its head"),
    (ROWS, [2, 8, 4], None),
    (ROWS, [3, 8, 4], "label 3 of row 0 is beyond the 3 classes"),
    (ROWS, [2, 8, 5], "label 5 of row 2 is beyond the 5 classes"),
]


@pytest.mark.parametrize(("adapters", "labels", "message"), CASES)
def test_labels_in_an_array_are_looked_at_before_training(model, adapters, labels, message):
    inputs, labels = inputs_of(model, adapters), np.array(labels)
    calls = (
        lambda: model.fit(inputs, labels, verbose=0),
        lambda: model.evaluate(inputs, labels, verbose=0),
        lambda: model.train_on_batch(inputs, labels),
    )
    if message is None:
        assert np.isfinite(calls[1]())
        return
    fine = inputs_of(model, adapters), np.zeros(3, int)
    for call in (*calls, lambda: model.fit(*fine, validation_data=(inputs, labels), verbose=0)):
        before = [weight.numpy() for weight in model.weights]
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert all(map(np.array_equal, model.weights, before))


@pytest.mark.parametrize(("adapters", "labels", "message"), CASES)
def test_labels_of_a_dataset_fail_the_step_in_one_line(model, adapters, labels, message):
    rows = inputs_of(model, adapters), np.array(labels, "int32")
    dataset = tf.data.Dataset.from_tensors(rows)
    for call in (model.fit, model.evaluate):
        if message is None:
            call(dataset, verbose=0)
            continue
        before = [weight.numpy() for weight in model.weights]
        with pytest.raises(UserError) as caught:
            call(dataset, verbose=0)
        assert str(caught.value) == BEYOND
        assert all(map(np.array_equal, model.weights, before))


def test_labels_of_packed_rows_are_looked_at_too(model):
    model.set_adapter("three")
    ids = np.ones((1, 6), "int32")
    segments, last = np.array([[1, 1, 1, 2, 2, 2]], "int32"), np.array([[2, 5]], "int32")
    inputs = {"token_ids": ids, "segment_ids": segments, "last_positions": last}
    for labels, message in (([[0, 2]], None), ([[0, 3]], BEYOND)):
        rows = inputs, np.array(labels, "int32"), np.ones((1, 2), "float32")
        dataset = tf.data.Dataset.from_tensors(rows)
        if message is None:
            model.fit(dataset, verbose=0)
            continue
        with pytest.raises(UserError) as caught:
            model.fit(dataset, verbose=0)
        assert str(caught.value) == message


def test_labels_in_a_column_are_looked_at_and_other_kinds_left_to_keras():
    with pytest.raises(UserError, match="label 3 of row 1 is beyond the 3 classes"):
        label_range.check(np.array([[0], [3]]), 3)
    for other in (
        None,
        np.eye(4),
        np.array([0.0, 9.0]),
        tf.constant([9]),
        [[0, 9]],
        np.array([-1]),
    ):
        label_range.check(other, 3)


def test_a_plain_classifier_says_which_label_it_has_no_class_for():
    model = small_model(GPT2Classifier, CONFIG, num_classes=2)
    model.compile("sgd", CrossEntropy(), jit_compile=False)
    with pytest.raises(UserError, match="label 2 of row 1 is beyond the 2 classes of its head"):
        model.fit(batch(SMALL), np.array([0, 2, 1]), verbose=0)

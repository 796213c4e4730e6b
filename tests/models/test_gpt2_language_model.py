"""The language model: tied head, and a loss in chunks that equals the plain one."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.models import chunked_loss, device_choices
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.objective import objective_of

pytestmark = pytest.mark.usefixtures("all_bits")


@pytest.fixture
def batch():
    """Rows of unequal length with supervised positions that are unequal in number too."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 97, length).tolist() for length in (9, 5, 7)]
    inputs = inputs_of(rows)
    positions = tf.constant([[3, 4, 5, 6], [1, 3, 0, 0], [2, 5, 4, 0]])
    targets = tf.constant(rng.integers(0, 97, (3, 4)), tf.int32)
    weights = tf.constant([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0.5, 2, 0]])
    return {**inputs, "target_positions": positions}, targets, weights


def make_model(config, lora):
    model = randomize(GPT2LanguageModel(config, lora=lora).built_now())
    if lora:
        model.freeze_all_but_lora()
    return model


def sums_of(model) -> Any:
    return objective_of(model).sums


def plain_sums(model, batch, training):
    inputs, targets, weights = batch
    logits = model(inputs, training=training)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    hits = tf.cast(tf.argmax(logits, axis=2, output_type=tf.int32) == targets, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("chunk", [4, 5, 512])
def test_chunked_loss_and_gradients_equal_the_plain(small_config, batch, monkeypatch, lora, chunk):
    monkeypatch.setattr(chunked_loss, "ROUND", 2)
    monkeypatch.setitem(device_choices.CPU.logit_rows, 4, chunk)
    model = make_model(small_config, lora)
    results = []
    for compute in (sums_of(model), lambda *b: plain_sums(model, b[:3], b[3])):
        with tf.GradientTape() as tape:
            loss, hits = compute(*batch, True)
            scaled = 3 * loss
        gradients = tape.gradient(scaled, model.trainable_variables)
        results.append((loss, hits, [tf.convert_to_tensor(g).numpy() for g in gradients]))
    (loss, hits, gradients), (plain_loss, plain_hits, plain_gradients) = results
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-5)
    assert float(hits) == float(plain_hits)
    for ours, plain in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4 * np.abs(plain).max())
        assert np.abs(plain).max() > 0


def test_evaluation_gives_the_same_sums(small_config, batch):
    model = make_model(small_config, None)
    for ours, plain in zip(
        sums_of(model)(*batch, False),
        plain_sums(model, batch, False),
        strict=True,
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-5)


def shapes_over_the_vocabulary(compute, model, batch):
    """Shapes in the traced training step that have the vocabulary's size, but for the table."""

    @tf.function
    def step(*batch):
        with tf.GradientTape() as tape:
            loss, _ = compute(*batch, True)
        return tape.gradient(loss, model.trainable_variables)

    graph = step.get_concrete_function(*batch).graph
    inner = [f.graph for f in graph._functions.values() if hasattr(f, "graph")]
    shapes = {
        tuple(output.shape)
        for function in [graph, *inner]
        for operation in function.get_operations()
        for output in operation.outputs
        if output.shape.rank is not None
    }
    return {shape for shape in shapes if 97 in shape} - {(97, 32), (97,), (32, 97)}


def test_no_array_of_all_logits_exists_in_training(small_config, batch, monkeypatch):
    monkeypatch.setattr(chunked_loss, "ROUND", 2)
    monkeypatch.setitem(device_choices.CPU.logit_rows, 4, 5)  # 12 rows are three chunks of 4
    model = make_model(small_config, {"rank": 2, "alpha": 4})
    assert shapes_over_the_vocabulary(sums_of(model), model, batch) == {(4, 97)}
    plain = shapes_over_the_vocabulary(lambda *b: plain_sums(model, b[:3], b[3]), model, batch)
    assert (3, 4, 97) in plain


def test_logits_at_targets_are_those_of_all_positions(small_config, batch):
    model = make_model(small_config, None)
    inputs, _, _ = batch
    some = model(inputs).numpy()
    every = model({name: inputs[name] for name in ("token_ids", "attention_mask")}).numpy()
    expected = np.take_along_axis(every, inputs["target_positions"].numpy()[..., None], axis=1)
    np.testing.assert_allclose(some, expected, atol=1e-5)


def test_the_head_is_the_token_embedding(small_config):
    model = make_model(small_config, None)
    assert len(model.weights) == len(model.transformer.weights)
    inputs = inputs_of([[1, 2, 3]])
    expected = (
        model.transformer(inputs, gate=model.gate_of_pass()).numpy()
        @ model.transformer.tokens.embeddings.numpy().T
    )
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_logits_equal_transformers(small_config, transformers):
    fields = {**small_config.to_dict(), "initializer_range": 0.2}
    theirs = transformers.TFGPT2LMHeadModel(transformers.GPT2Config(**fields))
    theirs.build()
    ours = GPT2LanguageModel(small_config)
    ours.load_tf_gpt2(theirs)
    inputs = inputs_of([[3, 1, 4, 1, 5, 9, 2, 6]])
    logits = theirs(inputs["token_ids"]).logits.numpy()
    np.testing.assert_allclose(ours(inputs), logits, atol=1e-4 * np.abs(logits).max())


def test_packed_loss_and_gradients_equal_the_unpacked(small_config):
    rng = np.random.default_rng(1)
    first, second = (rng.integers(0, 97, length).tolist() for length in (6, 4))
    config = dataclasses.replace(small_config)
    model = make_model(config, None)
    unpacked = {
        **inputs_of([first, second]),
        "target_positions": tf.constant([[2, 3, 4], [0, 1, 2]]),
    }
    targets = tf.constant([first[3:6], second[1:4]])
    packed = {
        "token_ids": tf.constant([first + second + [0]]),
        "segment_ids": tf.constant([[1] * 6 + [2] * 4 + [0]]),
        "target_positions": tf.constant([[2, 3, 4, 6, 7, 8]]),
    }
    sides = []
    for inputs, y in ((unpacked, targets), (packed, tf.reshape(targets, [1, 6]))):
        with tf.GradientTape() as tape:
            loss, _ = sums_of(model)(inputs, y, tf.ones(tf.shape(y)), True)
        sides.append((loss, tape.gradient(loss, model.trainable_variables)))
    np.testing.assert_allclose(sides[0][0], sides[1][0], rtol=1e-5)
    for one, other in zip(sides[0][1], sides[1][1], strict=True):
        one, other = tf.convert_to_tensor(one).numpy(), tf.convert_to_tensor(other).numpy()
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(one).max()))

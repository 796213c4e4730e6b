"""Packed classification is unpacked classification, whatever computes it, in at most two shapes."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import Descent, randomize
from token_rows import random_records

from gpt2_tuning.data.batch_arrays import Batch, PlannedBatch, classification_batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.models.device_choices import GPU, choosing
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.objective import objective_of
from gpt2_tuning.training.steps import StepFunctions, evaluate
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.traces import any_length

LORA = {"rank": 2, "alpha": 4}
BATCH_SIZE = 6


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    lengths = np.minimum(1 + rng.geometric(0.12, 20), 24)  # the last update has two examples
    rows = [rng.integers(0, 97, length).tolist() for length in lengths]
    return Records.of(rows, label=rng.integers(0, 3, len(rows)).astype(np.int32))


def steps_of(model_class, config, strategy="one", lora=None, accumulation=1):
    """Plain descent, so that what a weight moves by is its gradient; the model is always the same.

    Clipping is active.
    """
    keras.utils.set_random_seed(0)
    strategy = make_strategy(strategy)
    arguments = {"num_classes": 3} if model_class is GPT2Classifier else {}
    with strategy.scope():
        model = randomize(model_class(config, lora=lora, **arguments).built_now())
        if lora:
            model.freeze_all_but_lora()
        optimizer = Descent(0.1)
        optimizer.build(model.trainable_variables)
    return StepFunctions(objective_of(model), strategy, optimizer, 0.5, accumulation)


def trained(steps, batches):
    """What the steps return, and the weights they end with."""
    results = np.array([steps.train(batch).numpy() for batch in batches])
    return results, [weight.numpy() for weight in steps.model.trainable_variables]


def assert_same_training(one, other):
    """The same sums and norms, and the same weights, which have moved."""
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def unpacked(records, packed):
    """The examples of a packed batch, one a row."""
    planned = PlannedBatch(packed.rows, int(records.lengths.max()))
    return classification_batch(records, planned, BATCH_SIZE)


@pytest.mark.parametrize(
    "lora", [pytest.param(None, id="full", marks=pytest.mark.slow), pytest.param(LORA, id="lora")]
)
@pytest.mark.parametrize(
    ("strategy", "accumulation"),
    [
        ("one", 1),
        pytest.param("one", 3, marks=pytest.mark.slow),
        pytest.param("mirrored", 1, marks=pytest.mark.slow),
        ("mirrored", 2),
    ],
)
def test_packed_training_equals_unpacked(text_config, records, lora, strategy, accumulation):
    parts = accumulation * make_strategy(strategy).num_replicas_in_sync
    packed = list(PackedExamples(records, BATCH_SIZE, parts=parts).epoch(0, 0))
    assert any((batch.weights.sum(axis=1) > 1).any() for batch in packed)
    plain = steps_of(GPT2Classifier, text_config, lora=lora)
    before = [weight.numpy() for weight in plain.model.trainable_variables]
    expected = trained(plain, [unpacked(records, batch) for batch in packed])
    moved = zip(before, expected[1], strict=True)
    assert max(np.abs(new - old).max() for old, new in moved) > 1e-3
    steps = steps_of(GPT2Classifier, text_config, strategy, lora, accumulation)
    assert_same_training(trained(steps, packed), expected)


def test_a_packed_example_does_not_see_its_neighbour(text_config, records):
    model = randomize(GPT2Classifier(text_config, 3).built_now())
    batches = PackedExamples(records, BATCH_SIZE).epoch(0, 0)
    batch = next(batch for batch in batches if batch.weights.sum(axis=1).max() > 1)
    segments = batch.inputs["segment_ids"]
    for segment in (1, 2):
        others = (segments != segment) & (segments > 0)
        assert others.any()
        ids = np.where(others, (batch.inputs["token_ids"] + 1) % 97, batch.inputs["token_ids"])
        here = (batch.weights[:, segment - 1] == 1, segment - 1)  # rows that have such an example
        assert here[0].any()
        logits, with_others = (
            model({**batch.inputs, "token_ids": tokens}).numpy()
            for tokens in (batch.inputs["token_ids"], ids)
        )
        np.testing.assert_array_equal(logits[here], with_others[here])
        assert not np.array_equal(logits, with_others)


@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_packed_evaluation_equals_unpacked(text_config, records, strategy):
    steps = steps_of(GPT2Classifier, text_config, strategy)
    replicas = steps.strategy.num_replicas_in_sync
    packed = evaluate(steps, PackedExamples(records, BATCH_SIZE, parts=replicas))
    plain = evaluate(steps, BatchSource(records, BATCH_SIZE))
    assert packed == pytest.approx(plain, rel=1e-5)


@pytest.fixture
def one_block(text_config):
    """A model that is compiled sooner."""
    return dataclasses.replace(text_config, n_layer=1)


def packed_source(model_class, records):
    """Packed batches of either kind, as many shapes as on a GPU."""
    if model_class is GPT2Classifier:
        return PackedExamples(records, BATCH_SIZE)
    return PackedSource(random_records(24), 2, row_length=64, target_widths=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_class", "accumulation"), [(GPT2Classifier, 2), (GPT2LanguageModel, 1)]
)
def test_steps_compiled_whole_equal_plain_ones(one_block, records, model_class, accumulation):
    """As on a GPU, where XLA compiles a step as a whole and each shape is traced by itself."""
    batches = list(packed_source(model_class, records).epoch(0, 0))
    plain = trained(steps_of(model_class, one_block, accumulation=accumulation), batches)
    with choosing(GPU):
        steps = steps_of(model_class, one_block, accumulation=accumulation)
        assert_same_training(trained(steps, batches), plain)


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [GPT2Classifier, GPT2LanguageModel])
def test_each_shape_is_traced_and_compiled_once(one_block, records, model_class):
    source = packed_source(model_class, records)
    batches = [batch for epoch in range(3) for batch in source.epoch(0, epoch)]
    shapes = {(batch.inputs["token_ids"].shape, batch.targets.shape) for batch in batches}
    with choosing(GPU):
        steps = steps_of(model_class, one_block)
        for batch in batches:
            steps.train(batch)
            steps.evaluate(batch)
    for function in (steps._train.traced, steps._evaluate.traced):
        assert function.experimental_get_tracing_count() == len(shapes) <= 2


def test_a_compiled_module_is_smaller_where_the_sizes_are_known(one_block, records):
    """What XLA has to compile, with the sizes of a batch known when it is traced and not."""
    steps = steps_of(GPT2Classifier, one_block)
    batch = steps.tensors(next(PackedExamples(records, BATCH_SIZE).epoch(0, 0)))
    counts = []
    for signature in (batch, tf.nest.map_structure(any_length, batch)):
        step = tf.function(
            lambda batch: steps._sums_and_gradients(batch, 6.0)[1],
            [signature] if signature is not batch else None,
            jit_compile=True,
            autograph=False,
        )
        text = step.experimental_get_compiler_ir(batch)(stage="hlo")
        counts.append(sum(" = " in line for line in text.splitlines()))
    assert counts[0] < 0.9 * counts[1]


@pytest.mark.slow
def test_places_without_an_example_change_nothing(text_config, records):
    batch = next(PackedExamples(records, BATCH_SIZE).epoch(0, 0))
    added = [(0, 2), (0, 3)]
    inputs = batch.inputs.copy()
    for name, value in batch.inputs.items():
        more = [added[0], added[1] if name == "last_positions" else (0, 0)]
        inputs |= {name: np.pad(np.asarray(value), more)}  # type: ignore[misc]
    wider = Batch(inputs, np.pad(batch.targets, added), np.pad(batch.weights, added))
    one, other = (
        trained(steps_of(GPT2Classifier, text_config), [which]) for which in (batch, wider)
    )
    assert_same_training(one, other)

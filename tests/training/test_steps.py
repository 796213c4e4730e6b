"""One step: weighted as it should be, and the same however the batch is spread."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import randomize

from gpt2_tuning.data.batch_arrays import Batch, PlannedBatch, classification_batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.models.device_choices import CPU, GPU, choosing
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.training.loss_scale import FIRST, GROWS_AFTER, LossScale
from gpt2_tuning.training.objective import RightClass
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy, mirrored

pytestmark = pytest.mark.usefixtures("all_bits")


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 97, length).tolist() for length in rng.integers(1, 20, 21)]
    return Records.of(rows, label=rng.integers(0, 3, 21).astype(np.int32))


def steps_of(
    config,
    strategy,
    lora=None,
    max_grad_norm=0.05,
    accumulation=1,
    optimizer="adamw",
    dtype="float32",
):
    """Step functions of a model that is the same each time; the clipping is active."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = randomize(GPT2Classifier(config, 3, lora=lora, dtype=dtype).built_now())
        if lora:
            model.freeze_all_but_lora()
        optimizer = make_optimizer(optimizer, 1e-3, 0.01, 10, 0.1)
        optimizer.build(model.trainable_variables)
    return StepFunctions(RightClass(model), strategy, optimizer, max_grad_norm, accumulation)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lora", "strategy", "precision"),
    [
        (None, "one", "float32"),
        ({"rank": 2, "alpha": 4}, "one", "float32"),
        ({"rank": 2, "alpha": 4}, "mirrored", "float32"),
        ({"rank": 2, "alpha": 4}, "single", "float32"),
        ({"rank": 2, "alpha": 4}, "single", "float16"),
        ({"rank": 2, "alpha": 4}, "one", "float16"),
    ],
)
def test_a_step_that_xla_compiles_whole_as_on_a_gpu_is_the_plain_one(
    text_config, records, lora, strategy, precision
):
    """`single` is what `auto` makes of one GPU: replicas, of which there is one."""
    device = tf.config.list_logical_devices("CPU")[0].name
    devices = mirrored((device,)) if strategy == "single" else make_strategy(strategy)
    batch = next(iter(BatchSource(records, 5).epoch(0, 0)))
    ends = []
    for choices in (CPU, GPU):
        with choosing(choices):
            steps = steps_of(text_config, devices, lora, dtype=precision)
            sums = [steps.train(batch).numpy() for _ in range(2)] + [steps.evaluate(batch).numpy()]
        if choices is GPU and steps.alone:  # with its update: one module, and nothing beside it
            text = steps._train.traced.experimental_get_compiler_ir(steps.tensors(batch))("hlo")
            assert "input_output_alias" in text
        ends.append((steps.model.trainable_variables, np.concatenate(sums)))
    (plain, plain_sums), (compiled, compiled_sums) = ends
    tolerance = 1e-4 if precision == "float32" else 1e-2
    np.testing.assert_allclose(plain_sums, compiled_sums, rtol=tolerance)
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=tolerance / 10)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}], ids=["full", "lora"])
def test_two_replicas_end_with_the_weights_of_one(text_config, records, lora):
    source = BatchSource(records, 5)  # the last batch holds one row, and 5 is odd
    ends = []
    for name in ("one", "mirrored"):
        steps = steps_of(text_config, make_strategy(name), lora)
        results = [steps.train(batch).numpy() for batch in source.epoch(0, 0)]
        ends.append((steps, np.array(results)))
    (one, sums_one), (two, sums_two) = ends
    assert two.strategy.num_replicas_in_sync == 2
    np.testing.assert_allclose(sums_one, sums_two, rtol=1e-4, atol=1e-4)
    assert sums_one[:, 3].min() > 0.05  # every step was clipped
    for a, b in zip(one.model.weights, two.model.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)
    evaluated = [steps.evaluate(next(source.in_order())).numpy() for steps in (one, two)]
    np.testing.assert_allclose(evaluated[0], evaluated[1], rtol=1e-4)


@pytest.mark.slow
def test_accumulation_ends_with_the_weights_of_none(text_config, records):
    """Three parts on each of two devices: 5 rows become 6, and parts have unequal weights."""
    source, ends = BatchSource(records, 5), []
    for name, accumulation in (("one", 1), ("mirrored", 3)):
        steps = steps_of(text_config, make_strategy(name), accumulation=accumulation)
        results = [steps.train(batch).numpy() for batch in source.epoch(0, 0)]
        ends.append((np.array(results), [weight.numpy() for weight in steps.model.weights]))
    (whole_sums, whole), (parts_sums, parts) = ends
    np.testing.assert_allclose(whole_sums, parts_sums, rtol=1e-4, atol=1e-4)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_evaluation_adds_rows_for_its_replicas_alone(text_config, records):
    """Training computes 5 rows in 4 parts on each of two devices, so as 8; evaluation as 6."""
    batch = next(iter(BatchSource(records, 5).epoch(0, 0)))
    steps = steps_of(text_config, make_strategy("mirrored"), accumulation=4)
    assert steps.computed_tokens(batch) == 8 * batch.inputs["token_ids"].shape[1]
    steps.evaluate(batch)
    assert [kind[-1][0] for kind in steps._compiled] == [6]


def test_the_step_does_not_grow_with_accumulation(small_config):
    """Parts are computed in a loop: unrolled, the activations of all would be kept."""
    batch = Batch(
        {"token_ids": np.ones((8, 5), np.int32), "attention_mask": np.ones((8, 5), np.int32)},
        np.zeros(8, np.int32),
        np.ones(8, np.float32),
    )
    products = []
    for accumulation in (2, 4):
        steps = steps_of(small_config, make_strategy("one"), accumulation=accumulation)
        traced = steps._train.traced.get_concrete_function(steps.tensors(batch))
        graph = traced.graph.as_graph_def()
        functions = [graph.node, *(function.node_def for function in graph.library.function)]
        products.append(sum(node.op == "MatMul" for nodes in functions for node in nodes))
    assert products[0] == products[1] > 0


def test_batches_of_all_lengths_share_one_trace(text_config, records):
    """A trace for the first batch's length would round otherwise, also in that of a resumed run."""
    steps = steps_of(text_config, make_strategy("one"))
    batches = list(BatchSource(records, 5).epoch(0, 0))
    assert len({batch.inputs["token_ids"].shape for batch in batches}) > 2
    for batch in batches:
        steps.train(batch)
        steps.evaluate(batch)
    for function in (steps._train, steps._evaluate):
        assert function.traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("max_grad_norm", [0.05, 1000.0], ids=["clipped", "small enough"])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(text_config, records, max_grad_norm):
    """Plain descent at a rate of 1 moves each weight by its gradient after clipping."""
    steps = steps_of(text_config, make_strategy("one"), max_grad_norm=max_grad_norm)
    steps.optimizer = keras.optimizers.SGD(1.0)
    steps.optimizer.build(steps.model.trainable_variables)
    before = [weight.numpy() for weight in steps.model.trainable_variables]
    norm = steps.train(next(BatchSource(records, 5).epoch(0, 0))).numpy()[3]
    pairs = zip(steps.model.trainable_variables, before, strict=True)
    moved = np.sqrt(sum(np.square(weight.numpy() - old).sum() for weight, old in pairs))
    assert 0.05 < norm < 1000
    assert moved == pytest.approx(min(norm, max_grad_norm), rel=1e-3)


@pytest.mark.slow
def test_places_without_a_row_change_nothing(text_config, records):
    planned = PlannedBatch(np.arange(3), 19)
    ends = []
    for batch_size in (3, 8):
        steps = steps_of(text_config, make_strategy("one"))
        result = steps.train(classification_batch(records, planned, batch_size))
        ends.append((result.numpy(), [weight.numpy() for weight in steps.model.weights]))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-5)
    for a, b in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_sums_are_those_of_the_plain_formula(text_config, records):
    steps = steps_of(text_config, make_strategy("one"))
    batch = classification_batch(records, PlannedBatch(np.arange(4), 19), 4)
    batch = Batch(batch.inputs, batch.targets, np.array([1, 0.5, 0, 2], np.float32))
    logits = steps.model(batch.inputs).numpy()
    losses = -np.log(keras.ops.softmax(logits))[np.arange(4), batch.targets]
    hits = logits.argmax(axis=1) == batch.targets
    expected = [losses @ batch.weights, hits @ batch.weights, 3.5]
    np.testing.assert_allclose(steps.evaluate(batch), expected, rtol=1e-5)


def test_biases_and_layer_norms_are_not_decayed(small_config):
    """Without a gradient only decay moves a weight."""
    model = randomize(GPT2Classifier(small_config, 3).built_now())
    optimizer = make_optimizer("adamw", 0.1, 0.5, 10, 0.0)
    before = [weight.numpy() for weight in model.trainable_variables]
    zeros = [tf.zeros_like(weight) for weight in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    moved = {
        weight.path
        for weight, old in zip(model.trainable_variables, before, strict=True)
        if not np.array_equal(weight.numpy(), old)
    }
    assert moved == {
        w.path for w in model.trainable_variables if w.name in ("kernel", "embeddings")
    }


def test_fused_update_equals_keras(small_config):
    ends = []
    for fused in (True, False):
        model = randomize(GPT2Classifier(small_config, 3).built_now())
        optimizer = make_optimizer("adamw", 1e-2, 0.1, 10, 0.2)
        if not fused:
            plain = keras.optimizers.AdamW(optimizer._learning_rate, weight_decay=0.1, epsilon=1e-8)
            plain.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            optimizer = plain
        rng = np.random.default_rng(0)
        for _ in range(5):
            gradients = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in model.weights]
            optimizer.apply(gradients, model.trainable_variables)
        ends.append([weight.numpy() for weight in model.weights])
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
def test_adafactor_learns_with_about_half_the_memory_of_adamw(text_config, records):
    """Weights cannot be compared: it divides even a key bias's gradient, which is 0, by itself."""
    steps = steps_of(
        text_config, make_strategy("mirrored"), max_grad_norm=1.0, optimizer="adafactor"
    )
    held = sum(np.prod(variable.shape) for variable in steps.optimizer.variables)
    assert held < 1.1 * sum(np.prod(weight.shape) for weight in steps.model.weights)
    batch = next(BatchSource(records, 21).epoch(0, 0))
    losses = [steps.train(batch).numpy()[0] for _ in range(8)]
    assert losses[-1] < 0.9 * losses[0]


def test_learning_rate_rises_then_falls():
    schedule = make_optimizer("adamw", 0.1, 0.0, 100, 0.1)._learning_rate
    rates = [float(schedule(step)) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 0.01, rtol=1e-6)
    assert rates[10] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert 0 < rates[99] < 1e-4


# --- float16 ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_float16_trains_nearly_as_float32(text_config, records):
    source, ends = BatchSource(records, 5), []
    for dtype in ("float32", "mixed_float16"):
        steps = steps_of(text_config, make_strategy("one"), dtype=dtype)
        if steps.loss_scale is not None:
            steps.loss_scale.scale.assign(2.0**8)  # these weights are too large for more
        ends.append([steps.train(batch).numpy() for batch in source.epoch(0, 0)])
    exact, half = np.array(ends)
    np.testing.assert_allclose(half[:, 0], exact[:, 0], rtol=0.02)
    np.testing.assert_allclose(half[:, 3], exact[:, 3], rtol=0.05)


@pytest.mark.parametrize("strategy", ["one", pytest.param("mirrored", marks=pytest.mark.slow)])
def test_a_step_that_overflows_is_left_out_and_halves_the_scale(text_config, records, strategy):
    steps = steps_of(text_config, make_strategy(strategy), dtype="mixed_float16")
    steps.loss_scale.scale.assign(2.0**40)
    batch = next(BatchSource(records, 5).epoch(0, 0))
    kept = [*steps.model.trainable_variables, *steps.optimizer.variables]
    before = [variable.numpy() for variable in kept]
    result = steps.train(batch).numpy()
    assert np.isfinite(result).all()
    assert result[3] == 0
    assert float(steps.loss_scale.value) == 2.0**39
    for variable, old in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    steps.loss_scale.scale.assign(2.0**10)
    assert steps.train(batch).numpy()[3] > 0
    assert steps.optimizer.iterations.numpy() == 1


def test_the_scale_grows_after_many_fine_steps_and_an_overflow_at_1_is_told():
    loss_scale = LossScale()
    for _ in range(GROWS_AFTER):
        loss_scale.after_step(tf.constant([1.0, 2.0]))
    assert float(loss_scale.value) == 2 * FIRST
    loss_scale.scale.assign(1.0)
    assert np.isnan(loss_scale.after_step(tf.constant([1.0, np.inf]))[-1])

"""The compiled parts of the model against the same written out, and what dropout must be."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models import kernels
from gpt2_tuning.models.block import DropoutSeeds
from gpt2_tuning.models.gpt2_model import GPT2Model

pytestmark = pytest.mark.usefixtures("all_bits")

SEED = tf.constant([3, 4])


def normal(*shape):
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape), tf.float32)


CASES: dict[str, tuple[Any, ...]] = {
    "gelu": (kernels.gelu, (normal(2, 5, 8),), {}),
    "exact_gelu": (kernels.exact_gelu, (normal(2, 5, 8),), {}),
    "layer_norm": (
        kernels.layer_norm,
        (normal(2, 5, 8), normal(8), normal(8)),
        {"epsilon": 1e-5},
    ),
    "dropout": (kernels.dropout, (normal(2, 5, 8), SEED), {"rate": 0.3}),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_plain_in_value_and_in_every_gradient(name):
    island, tensors, static = CASES[name]
    floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
    found = []
    for compiled in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(floats)
            value = island(*tensors, compiled=compiled, **static)
            # Weighted, so that a gradient in the wrong place shows.
            loss = tf.reduce_sum(
                value * tf.reshape(tf.linspace(0.0, 1.0, tf.size(value)), value.shape)
            )
        found.append([value, *tape.gradient(loss, floats)])
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_computation_is_in_float32_and_the_result_in_the_type_of_the_input(name):
    island, tensors, static = CASES[name]
    halves = [tf.cast(t, tf.bfloat16) if t.dtype.is_floating else t for t in tensors]
    exact = [tf.cast(t, tf.float32) if t.dtype.is_floating else t for t in halves]
    value = island(*halves, compiled=True, **static)
    assert value.dtype == tf.bfloat16
    wanted = tf.cast(island(*exact, compiled=True, **static), tf.bfloat16)
    np.testing.assert_allclose(
        tf.cast(value, tf.float32), tf.cast(wanted, tf.float32), rtol=2**-7, atol=1e-6
    )


def test_a_gradient_nobody_asks_for_is_not_computed():
    @tf.function(autograph=False)
    def gradient(x, gain, bias):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = kernels.layer_norm(x, gain, bias, epsilon=1e-5, compiled=True)
        return tape.gradient(value, x)

    _, tensors, _ = CASES["layer_norm"]
    graph = gradient.get_concrete_function(*tensors).graph
    calls = {op for op in graph.get_operations() if "PartitionedCall" in op.type}
    needed, waiting = set(), [graph.outputs[0].op]
    while waiting:
        op = waiting.pop()
        needed.add(op)
        waiting += [tensor.op for tensor in op.inputs]
    # TensorFlow drops what is not needed, unless it is stateful.
    assert {op.type for op in calls} == {"PartitionedCall"}
    assert len(calls) == 4  # the value, and the gradients of x, gain and bias
    assert len(calls & needed) <= 2


# --- dropout ---------------------------------------------------------------------------------


def mask(seed, shape=(400, 500), rate=0.1):
    return kernels.dropout(tf.ones(shape), tf.constant(seed), rate=rate, compiled=True).numpy() > 0


def correlation(one, other):
    return abs(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    ones = tf.ones((400, 500))
    value = kernels.dropout(ones, SEED, rate=rate, compiled=True).numpy()
    spread = np.sqrt(rate * (1 - rate) / value.size)
    assert abs((value == 0).mean() - rate) < 4 * spread
    np.testing.assert_allclose(value[value > 0], 1 / (1 - rate), rtol=1e-6)


def test_the_gradient_passes_where_the_value_did():
    x = tf.ones((40, 50))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = kernels.dropout(x, SEED, rate=0.1, compiled=True)
    np.testing.assert_array_equal(tape.gradient(value, x), value)


def test_masks_of_neighbouring_seeds_have_nothing_in_common():
    """Five standard deviations of the correlation of independent masks are 0.011."""
    seeds = [(5, 7), (5, 8), (6, 7), (7, 5), (0, 0), (0, 1), (1, 0), (-1, -1)]
    masks = [mask(seed) for seed in seeds]
    for index, one in enumerate(masks):
        for other in masks[:index]:
            assert correlation(one, other) < 0.011


def test_places_of_a_mask_have_nothing_in_common():
    one = mask((5, 7))
    for rows, columns in ((0, 1), (1, 0), (1, 1), (0, 2), (16, 0), (0, 128)):
        shifted = one[rows:, columns:]
        assert correlation(one[: shifted.shape[0], : shifted.shape[1]], shifted) < 0.011
    for axis in (0, 1):
        expected = np.sqrt(0.09 / one.shape[axis])
        assert abs(one.mean(axis=axis).std() / expected - 1) < 0.2


def test_the_masks_of_a_model_differ_between_places_and_steps():
    """Every dropout of every block, and of the next step, has a seed of its own."""
    base, following = tf.constant([9, 0]), tf.constant([9, 1])
    seeds = [
        tuple(np.array(place))
        for seed in (base, following)
        for block in range(1, 4)
        for place in DropoutSeeds.of_block(seed, block)
    ] + [tuple(base.numpy()), tuple(following.numpy())]
    assert len(set(seeds)) == len(seeds)


def test_dropout_is_on_in_training_alone_and_never_the_same_twice():
    model = GPT2Model(GPT2Config.from_size("tiny", vocab_size=50, n_positions=8)).built_now()
    inputs = {"token_ids": tf.ones([2, 4], tf.int32), "attention_mask": tf.ones([2, 4], tf.int32)}
    quiet, again = model(inputs), model(inputs)
    np.testing.assert_array_equal(quiet, again)
    one, other = model(inputs, training=True), model(inputs, training=True)
    assert not np.allclose(one, quiet)
    assert not np.allclose(one, other)

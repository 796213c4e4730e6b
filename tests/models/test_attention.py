"""Attention in all its forms: the same values and gradients, and no weight for what is hidden."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.models import attention as forms
from gpt2_tuning.models.attention import attend, attend_by_xla, attention, by_token
from gpt2_tuning.models.inputs import positions_of, visible_tokens, within_window
from gpt2_tuning.models.seen import seen_at, seen_of

pytestmark = pytest.mark.usefixtures("all_bits")

SEED = tf.constant([3, 4])
LONG = forms.HALVED_FROM


def normal(*shape):
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape), tf.float32)


def causal(rows, length):
    return tf.constant(np.tril(np.ones((rows, length, length), bool)))


def query_key_value(length):
    return [normal(2, 3, length, 4) + shift for shift in (0.0, 0.5, 1.0)]


SCALE = 0.5
QUERY_KEY_VALUE, VISIBLE = query_key_value(5), causal(2, 5)


@pytest.fixture(params=["XLA", "oneDNN"])
def form(request, monkeypatch):
    """Who computes the products in training, whatever this processor would choose."""
    apart = request.param == "oneDNN"
    monkeypatch.setattr(forms, "small_products_apart", lambda dtype, group=1: apart)
    return request.param


def trained(tensors, visible, rate=0.3):
    """Attention as training computes it."""
    query, key, value = tensors
    return attention(query, key, value, visible, SEED, scale=SCALE, rate=rate, compiled=True)


def value_and_gradients(function, tensors):
    """A function of query, key and value, and the gradients of its weighted sum."""
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
        # Weighted, so that a gradient in the wrong place shows.
        loss = tf.reduce_sum(value * tf.reshape(tf.linspace(0.0, 1.0, tf.size(value)), value.shape))
    return [value, *tape.gradient(loss, tensors)]


@pytest.mark.parametrize("length", [5, LONG])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_training_gives_the_values_and_gradients_of_attention_written_out(form, rate, length):
    tensors = query_key_value(length)
    # The second row is padding alone, as rows that fill a batch are: its queries see nothing.
    visible = causal(2, length) & [[[True]], [[False]]]

    def written_out(*tensors):
        # XLA's second half drops by a seed of its own.
        halved = form == "XLA"
        mixed = attend_by_xla(
            *tensors, visible, SEED, scale=SCALE, rate=rate, halved=halved, compiled=False
        )
        return by_token(mixed)

    def compiled(*tensors):
        return trained(tensors, visible, rate)

    plain = value_and_gradients(written_out, tensors)
    for found, wanted in zip(value_and_gradients(compiled, tensors), plain, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_the_softmax_is_in_float32_and_the_result_in_the_type_of_the_query(form):
    halves = [tf.cast(tensor, tf.bfloat16) for tensor in QUERY_KEY_VALUE]
    exact = [tf.cast(tensor, tf.float32) for tensor in halves]
    found, wanted = (
        value_and_gradients(
            lambda *tensors: tf.cast(trained(tensors, VISIBLE), tf.float32),
            tensors,
        )
        for tensors in (halves, exact)
    )
    assert trained(halves, VISIBLE).dtype == tf.bfloat16
    # The products take rounded factors, however exact what is between them is.
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(tf.cast(one, tf.float32), other, rtol=2**-5, atol=2**-4)


def weights_of(visible, seed=None, compiled=False, length=5):
    """Attention's weights: with an identity for the values they come out as they are."""
    query, key, _ = (normal(2, 3, length, length) + shift for shift in (0.0, 0.5, 1.0))
    value = tf.broadcast_to(tf.eye(length), key.shape)
    return attention(
        query, key, value, visible, seed, scale=SCALE, rate=0.3, compiled=compiled
    ).numpy()


@pytest.mark.parametrize("compiled", [False, True])
def test_padding_and_the_future_have_no_weight(form, compiled):
    seed = SEED if compiled else None
    weights = weights_of(VISIBLE, seed=seed, compiled=compiled)
    hidden = np.broadcast_to(~VISIBLE.numpy()[:, :, np.newaxis], weights.shape)
    assert not weights[hidden].any()
    if not compiled:
        np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 5, LONG - 1, LONG, LONG + 1])
def test_attention_in_halves_is_attention(length):
    tensors, visible = query_key_value(length), causal(2, length)
    whole, halves = (
        attend_by_xla(*tensors, visible, None, scale=SCALE, rate=0.3, halved=halved, compiled=False)
        for halved in (False, True)
    )
    np.testing.assert_allclose(halves, whole, rtol=1e-5, atol=1e-6)


def test_the_halves_of_attention_drop_differently():
    same = [tf.ones((1, 1, 128, 128)), tf.ones((1, 1, 128, 128)), tf.eye(128)[None, None]]
    visible = tf.ones((1, 128, 128), tf.bool)
    weights = attend_by_xla(*same, visible, SEED, scale=1.0, rate=0.5, halved=True, compiled=True)
    kept = weights.numpy()[0, 0] > 0
    assert np.corrcoef(kept[:64, :64].ravel(), kept[64:, :64].ravel())[0, 1] < 0.1


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_attention_of_a_single_query_is_that_of_many(dtype):
    query, key, value = (tf.cast(part, dtype) for part in QUERY_KEY_VALUE)
    visible = tf.constant(np.random.default_rng(0).random((2, 5, 5)) < 0.6) | VISIBLE[:, :1]
    many = attend(query, key, value, visible, None, SCALE, 0.0)
    for place in range(5):
        alone = slice(place, place + 1)
        one = attend(query[:, :, alone], key, value, visible[:, alone], None, SCALE, 0.0)
        tolerance = {tf.float32: 1e-6, tf.bfloat16: 2e-2, tf.float16: 2e-3}[dtype]
        np.testing.assert_allclose(
            tf.cast(one, tf.float32), tf.cast(many[:, :, alone], tf.float32), atol=tolerance
        )


def rows_seen(kind, length) -> tuple[Any, tf.Tensor]:
    """Who sees whom in three rows of padded, packed or windowed input, and its mask."""
    if kind == "segments":
        ids = [[1] * 5 + [2] * (length - 5), [1] * 3 + [2] * 4 + [0] * (length - 7), [3] * length]
        inputs: Any = {"segment_ids": tf.constant(ids)}
    else:
        lengths = tf.constant([length, 6, 0])  # a row of padding, as rows that fill a batch are
        inputs = {"attention_mask": tf.cast(tf.range(length) < lengths[:, tf.newaxis], tf.int32)}
    inputs["token_ids"] = tf.zeros([3, length], tf.int32)
    visible = visible_tokens(inputs)
    positions = positions_of(visible)
    seen = seen_of(inputs, 4)
    np.testing.assert_array_equal(seen.queries.positions, positions)
    if kind == "window":
        seen = dataclasses.replace(seen, window=3)
        visible = within_window(visible, positions, positions, 3)
    np.testing.assert_array_equal(seen.mask(), visible)
    return seen, visible


@pytest.mark.parametrize("kind", ["padding", "segments", "window"])
@pytest.mark.parametrize("places", [None, [[1, 9], [0, 5], [2, 2]]], ids=["all", "some"])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("whole", [False, True], ids=["plain", "XLA"])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_attention_in_blocks_is_attention(kind, places, group, whole, rate):
    """To 1e-5, its gradients and what dropout drops too; 10 tokens are no multiple of a block."""
    length = 10
    seen, visible = rows_seen(kind, length)
    query = normal(3, 2, length * group, 8)
    tensors = [query, normal(3, 2, length, 8) + 0.5, normal(3, 2, length, 8) + 1]
    options: Any = {"scale": SCALE, "rate": rate, "group": group}
    if places:
        at = tf.constant(places)
        seen, visible = seen_at(seen, at), seen_at(visible, at)
        tensors[0] = query[:, :, : 2 * group]

    some = tf.repeat(tf.reduce_any(visible, axis=2), group, axis=1)[:, tf.newaxis, :, tf.newaxis]

    def blocks(query, key, value):
        found = forms.attend_in_blocks(query, key, value, seen, SEED, most=4, **options)
        return tf.where(some, found, 0.0)

    def at_once(query, key, value):
        return tf.where(some, attend(query, key, value, visible, SEED, **options), 0.0)

    blocks_and_gradients = functools.partial(value_and_gradients, blocks)
    if whole:
        blocks_and_gradients = tf.function(blocks_and_gradients, jit_compile=True, autograph=False)
    found, expected = blocks_and_gradients(tensors), value_and_gradients(at_once, tensors)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-5)

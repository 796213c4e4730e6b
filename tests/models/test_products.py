"""Products of 16-bit numbers are the same whether the processor multiplies those or float32."""

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.models import products
from gpt2_tuning.models.device_choices import CPU, GPU, choosing

pytestmark = pytest.mark.usefixtures("all_bits")

TOLERANCES = {
    "float32": 0.0,
    # Some of TensorFlow's own products cut the last bits off instead of rounding.
    "own": 2.0**-7,
}


@pytest.fixture(params=TOLERANCES)
def close(request, monkeypatch):
    """On both kinds of processors: asserts that a bfloat16 result is what float32 rounds to."""
    wide = tf.float32 if request.param == "float32" else None
    monkeypatch.setattr(products, "product_type", lambda dtype: wide or dtype)

    def compare(found, exact):
        assert found.dtype == tf.bfloat16
        rounded = tf.cast(tf.cast(exact, tf.bfloat16), tf.float32)
        tolerance = TOLERANCES[request.param]
        np.testing.assert_allclose(tf.cast(found, tf.float32), rounded, rtol=tolerance)

    return compare


def whole_numbers(rng, *shape):
    """Small enough that their products have no rounding before the last one."""
    return rng.integers(-8, 9, shape).astype(np.float32)


@pytest.mark.parametrize("transposed", ["neither", "a", "b"])
def test_product_is_rounded_once(close, transposed):
    rng = np.random.default_rng(0)
    a, b = whole_numbers(rng, 12, 40), whole_numbers(rng, 40, 9)
    exact = a @ b
    a, b = (a.T if transposed == "a" else a), (b.T if transposed == "b" else b)
    found = products.product(
        tf.cast(a, tf.bfloat16),
        tf.cast(b, tf.bfloat16),
        transpose_a=transposed == "a",
        transpose_b=transposed == "b",
    )
    close(found, exact)


def test_gradients_are_those_of_matmul(close):
    rng = np.random.default_rng(1)
    a, b, upstream = (
        tf.cast(whole_numbers(rng, *shape), tf.bfloat16) for shape in ((6, 30), (30, 5), (6, 5))
    )

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            value = products.differentiable_product(a, b)
        return tape.gradient(value, [a, b], upstream)

    for_a, for_b = gradients()
    a, b, upstream = (tf.cast(matrix, tf.float32).numpy() for matrix in (a, b, upstream))
    close(for_a, upstream @ b.T)
    close(for_b, a.T @ upstream)


def test_no_float32_copy_of_a_factor_is_kept_for_the_gradient(monkeypatch):
    monkeypatch.setattr(products, "product_type", lambda dtype: tf.float32)
    matrix = tf.TensorSpec([4, 4], tf.bfloat16)

    @tf.function(input_signature=[matrix, matrix])
    def gradients(a, b):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            value = products.differentiable_product(a, b)
        return tape.gradient(value, [a, b])

    graph = gradients.get_concrete_function().graph
    for factor in graph.inputs:
        forward, backward = (op for op in factor.consumers() if op.type == "Cast")
        # Else the two would be merged into one, which lives until the backward pass.
        assert not forward.control_inputs
        assert backward.control_inputs


@pytest.mark.parametrize(
    ("flags", "dtype", "expected"),
    [
        ({"avx2"}, tf.bfloat16, tf.float32),
        ({"avx2", "avx512f"}, tf.bfloat16, tf.bfloat16),
        ({"avx2", "avx512f"}, tf.float16, tf.float32),
        ({"avx2", "avx512f", "avx512_fp16"}, tf.float16, tf.float16),
        ({"avx2"}, tf.float32, tf.float32),
        (set(), tf.bfloat16, tf.bfloat16),  # not x86, or not Linux: left to TensorFlow
    ],
)
def test_the_type_of_products_follows_from_the_processor(monkeypatch, flags, dtype, expected):
    monkeypatch.setattr(products, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(products, "type_for_onednn", products.type_for_onednn.__wrapped__)
    with choosing(CPU):
        assert products.product_type(dtype) == expected
    with choosing(GPU):
        assert products.product_type(dtype) == dtype

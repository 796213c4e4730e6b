"""Large matrix products, also of 16-bit numbers on processors that cannot multiply those.

There TensorFlow converts both factors to float32 for every product in one thread, leaves oneDNN
out, and cuts the last bits off the result. Here all threads convert, oneDNN multiplies, and the
result is rounded.
"""

import functools

import tensorflow as tf

from gpt2_tuning import processor
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.models.kernels import leading_sizes

NEEDED = {tf.bfloat16: "avx512f", tf.float16: "avx512_fp16"}
"""The instructions without which oneDNN does not multiply numbers of a type on x86."""


def product_type(dtype: tf.DType | str) -> tf.DType:
    """The type in which numbers of `dtype` are multiplied here: their own, or float32."""
    dtype = tf.as_dtype(dtype)
    return dtype if device_choices().whole else type_for_onednn(dtype)


@functools.cache
def type_for_onednn(dtype: tf.DType) -> tf.DType:
    """The same on a CPU."""
    if dtype not in NEEDED:
        return dtype
    flags = processor_flags()
    return tf.float32 if flags and NEEDED[dtype] not in flags else dtype


def small_products_apart(dtype: tf.DType, group: int = 1) -> bool:
    """Whether many small products of this type are faster here by oneDNN than compiled by XLA.

    In products of 20 to 1,024 rows it was so with these instructions, and not with AVX2 alone.
    Where queries share keys and values the products are larger: with AVX2 a LoRA step of a Llama
    with 3 of them a key, 8 x 256 tokens, took 0.97 of its time, and one of 8 x 64 no more.

    Args:
        dtype: of the factors.
        group: how many queries of a token share a head of keys and values.
    """
    if device_choices().whole:
        return False
    units = {tf.float32: "avx512f", tf.bfloat16: "avx512_bf16"}.get(dtype)
    return units in processor_flags() or (group > 1 and dtype == tf.float32)


@functools.cache
def processor_flags() -> frozenset[str]:
    """The instruction sets of an x86 processor under Linux, by their names there; else none."""
    return frozenset(processor.field("flags").split())


def product(a, b, transpose_a=False, transpose_b=False):
    """a b, or with one of them transposed: matrices of one type, rounded to it once.

    b may also be in that type's `product_type` already, which saves its conversion.
    """
    wide = product_type(a.dtype)
    if wide == a.dtype:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    factors = tf.cast(a, wide), tf.cast(b, wide)
    return tf.cast(tf.matmul(*factors, transpose_a=transpose_a, transpose_b=transpose_b), a.dtype)


@tf.custom_gradient
def differentiable_product(a, b):
    """a b, that keeps no more than a and b for its gradient."""

    def backward(upstream):
        # Without this the graph would convert a and b once, and keep that from the forward pass.
        with tf.control_dependencies([upstream]):
            return (
                product(upstream, b, transpose_b=True),
                tf.cast(product(a, upstream, transpose_a=True), b.dtype),
            )

    return product(a, b), backward


def project(inputs, kernel, bias=None):
    """inputs [..., n] times kernel [n, m], plus bias [m]: one flat product, oneDNN's fastest."""
    kernel = tf.convert_to_tensor(kernel)
    flat = differentiable_product(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
    if bias is not None:
        flat = tf.nn.bias_add(flat, tf.convert_to_tensor(bias))
    return tf.reshape(flat, [*leading_sizes(inputs), kernel.shape[1]])

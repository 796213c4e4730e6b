"""The elementwise parts of the model between its matrix products.

In training each is compiled by XLA into one pass over memory, where TensorFlow would make one for
every operation and keep most results for the gradient. The matrix products stay outside: on a CPU
oneDNN computes them faster than XLA does. Everything here computes in float32 and returns the type
of its first argument.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

MASKED = -1e9
"""The float32 score of a token that must not be seen: its weight comes out as exactly 0."""


compile_it = functools.partial(tf.function, jit_compile=True, autograph=False)


class Island:
    """A function of tensors that runs as it stands, or compiled with a compiled gradient.

    The compiled gradient recomputes the function, so nothing but its inputs is kept. That of each
    input is a function of its own: the graph drops those that nobody asks for, such as that of a
    frozen LayerNorm gain. Compiling takes a moment for every new shape, which pays in training,
    where few shapes come often; elsewhere the plain function serves.

    """

    def __init__(self, plain: Callable[..., tf.Tensor]):
        self.plain = plain
        functools.update_wrapper(self, plain)

    def __call__(self, *tensors: Any, compiled: bool, **static: Any) -> tf.Tensor:
        """The function's value.

        Args:
            tensors: its tensors; those of integers and booleans have no gradient.
            compiled: whether XLA is to compile it.
            static: its other arguments, constants of the compiled function.
        """
        if not compiled:
            return self.plain(*tensors, **static)
        return self._compiled(tuple(sorted(static.items())))(*map(tf.convert_to_tensor, tensors))

    @functools.cache  # noqa: B019 - islands live as long as the process
    def _compiled(self, static: tuple[tuple[str, Any], ...]) -> Callable[..., tf.Tensor]:
        function = functools.partial(self.plain, **dict(static))
        forward = compile_it(lambda *tensors: function(*tensors))

        @functools.cache
        def gradient_of(index: int):
            def gradient(tensors, upstream):
                with tf.GradientTape() as tape:
                    tape.watch(tensors[index])
                    value = function(*tensors)
                return tape.gradient(value, tensors[index], upstream)

            return compile_it(gradient)

        @tf.custom_gradient
        def call(*tensors):
            def backward(upstream):
                return [
                    gradient_of(index)(tensors, upstream) if tensor.dtype.is_floating else None
                    for index, tensor in enumerate(tensors)
                ]

            return forward(*tensors), backward

        return call


@Island
def gelu(x):
    """The tanh form of GELU (Hendrycks & Gimpel 2016), of any shape."""
    return tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=True), x.dtype)


@Island
def layer_norm(x, gain, bias, epsilon: float):
    """Over the last axis of x, [..., C]; `gain` and `bias` are [C] (Ba et al. 2016)."""
    exact = tf.cast(x, tf.float32)
    centred = exact - tf.reduce_mean(exact, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + epsilon)
    return tf.cast(normal * tf.cast(gain, tf.float32) + tf.cast(bias, tf.float32), x.dtype)


@Island
def attention_weights(scores, visible, seed, rate: float):
    """Softmax over what is visible, then dropout.

    Args:
        scores: [B, heads, T, S].
        visible: bool [B, T, S].
        seed: int32 [2], of the dropout; None is inference.
        rate: the share of weights that are dropped.
    """
    masked = tf.where(visible[:, tf.newaxis], tf.cast(scores, tf.float32), MASKED)
    return tf.cast(dropped(tf.nn.softmax(masked), seed, rate), scores.dtype)


def dropout(x, seed, rate: float, compiled: bool):
    """x with a share `rate` of its values set to zero and the others scaled up for it.

    The gradient goes the same way as the value, so nothing is kept for it but the seed.
    """
    if seed is None or not rate:
        return x
    drop = compiled_dropping(rate) if compiled else functools.partial(dropped, rate=rate)

    @tf.custom_gradient
    def call(x):
        return drop(x, seed), lambda upstream: drop(upstream, seed)

    return call(x)


@functools.cache
def compiled_dropping(rate: float) -> Callable[..., tf.Tensor]:
    """`dropped` with a rate, compiled."""
    return compile_it(lambda x, seed: dropped(x, seed, rate))


def dropped(x, seed, rate: float):
    """x after dropout, with a mask that follows from seed and place alone.

    So no mask is kept for the gradient: it comes again from the seed. None is no dropout.
    """
    if seed is None or not rate:
        return x
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    keep = random_bits(tf.shape(x), seed) >= threshold
    return tf.cast(tf.where(keep, tf.cast(x, tf.float32) / (1 - rate), 0.0), x.dtype)


def random_bits(shape, seed) -> tf.Tensor:
    """32 random bits for every place of an array, uint32.

    A hash of the place's number, not a generator: it costs a few integer operations where
    TensorFlow's generators took longer than all else in a block but its matrix products.

    Args:
        shape: int32 [rank].
        seed: int32 [2]; any two numbers.
    """
    rank = shape.shape[0]
    numbers, stride = tf.zeros([1] * rank, tf.uint32), tf.constant(1, tf.uint32)
    for axis in reversed(range(rank)):
        size = tf.cast(shape[axis], tf.uint32)
        places = tf.cast(tf.range(shape[axis]), tf.uint32) * stride
        numbers += tf.reshape(places, [-1] + [1] * (rank - 1 - axis))
        stride *= size
    first, second = tf.unstack(tf.cast(seed, tf.uint32))
    # Seeds count up; mixed once, neighbours have nothing in common, and each is two keys.
    key = mixed(first + mixed(second))
    other = mixed(key + second)
    return mixed(mixed(numbers + key) ^ other)


def mixed(x):
    """A bijection of uint32 under which every bit depends on all (`lowbias32`, C. Wellons 2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32))) * tf.constant(
            factor, tf.uint32
        )
    return x ^ tf.bitwise.right_shift(x, tf.constant(16, tf.uint32))

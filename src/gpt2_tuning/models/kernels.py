"""The elementwise parts of the model between its matrix products.

In training each is compiled by XLA into one pass over memory, where TensorFlow would make one for
every operation and keep most results for the gradient. The large matrix products stay outside: on
a CPU oneDNN computes them faster than XLA does. All is computed in float32; the result has the type
of the first argument.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

UNKNOWN = -1
"""A size that `reshape` is to find."""

compile_it = functools.partial(tf.function, jit_compile=True, autograph=False)


class Island:
    """A function of tensors that runs as it stands, or compiled with a compiled gradient.

    The compiled gradient recomputes the function, so nothing but its inputs is kept. That of each
    input is a function of its own: the graph drops those that nobody asks for, such as that of a
    frozen LayerNorm gain. Compiling takes a moment for every new shape, which pays in training,
    where few shapes come often; elsewhere the plain function serves.

    Args:
        plain: the function.
        jointly: whether one function computes the gradients of all inputs, which suits those that
            are always wanted together.
    """

    def __init__(self, plain: Callable[..., tf.Tensor], jointly: bool = False):
        self.plain, self.jointly = plain, jointly
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
        def gradients_of(group: tuple[int, ...]):
            def gradients(tensors, upstream):
                inputs = [tensors[index] for index in group]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    value = function(*tensors)
                return tape.gradient(value, inputs, upstream)

            return compile_it(gradients)

        @tf.custom_gradient
        def call(*tensors):
            wanted = [index for index, tensor in enumerate(tensors) if tensor.dtype.is_floating]
            groups = [tuple(wanted)] if self.jointly else [(index,) for index in wanted]

            def backward(upstream):
                found = dict.fromkeys(range(len(tensors)))
                for group in groups:
                    found.update(zip(group, gradients_of(group)(tensors, upstream), strict=True))
                return list(found.values())

            return forward(*tensors), backward

        return call


@Island
def gelu(x):
    """The tanh form of GELU (Hendrycks & Gimpel 2016), of any shape."""
    return tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=True), x.dtype)


@Island
def exact_gelu(x):
    """GELU by the error function (Hendrycks & Gimpel 2016), of any shape."""
    return tf.cast(tf.nn.gelu(tf.cast(x, tf.float32), approximate=False), x.dtype)


@Island
def gated_silu(gate, x):
    """x times gate's SiLU, gate x sigmoid(gate), both of any one shape (Shazeer 2020)."""
    exact = tf.cast(gate, tf.float32)
    return tf.cast(exact * tf.sigmoid(exact) * tf.cast(x, tf.float32), x.dtype)


@Island
def layer_norm(x, gain, bias, epsilon: float):
    """Over the last axis of x, [..., C]; `gain` and `bias` are [C] (Ba et al. 2016)."""
    exact = tf.cast(x, tf.float32)
    centred = exact - tf.reduce_mean(exact, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + epsilon)
    return tf.cast(normal * tf.cast(gain, tf.float32) + tf.cast(bias, tf.float32), x.dtype)


@Island
def rms_norm(x, gain, epsilon: float):
    """x over its last axis's root mean square, times `gain`, [C] (Zhang & Sennrich 2019)."""
    exact = tf.cast(x, tf.float32)
    square = tf.reduce_mean(tf.square(exact), axis=-1, keepdims=True)
    return tf.cast(exact * tf.math.rsqrt(square + epsilon) * tf.cast(gain, tf.float32), x.dtype)


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


class Part(NamedTuple):
    """Which part of an array another one is."""

    first: tf.Tensor  # int32 [rank], its first place
    whole: tf.Tensor  # int32 [rank], the array's shape


def dropped(x, seed, rate: float, part: Part | None = None):
    """x after dropout, with a mask that follows from seed and place alone.

    So no mask is kept for the gradient: it comes again from the seed. None is no dropout. A `part`
    loses what it would within the array that it is of.
    """
    if seed is None or not rate:
        return x
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    keep = random_bits(tf.shape(x), seed, part) >= threshold
    return tf.cast(tf.where(keep, tf.cast(x, tf.float32) / (1 - rate), 0.0), x.dtype)


def random_bits(shape, seed, part: Part | None = None) -> tf.Tensor:
    """32 random bits for every place of an array, uint32.

    A hash of the place's number, not a generator: it costs a few integer operations where
    TensorFlow's generators took longer than all else in a block but its matrix products.

    Args:
        shape: int32 [rank].
        seed: int32 [2]; any two numbers.
        part: where the array is a part of another: its bits are those of its places there.
    """
    first, second = tf.unstack(tf.cast(seed, tf.uint32))
    # Seeds count up; mixed once, neighbours have nothing in common, and each is two keys.
    key = mixed(first + mixed(second))
    other = mixed(key + second)
    rank = shape.shape[0]
    # The key comes first: XLA would compute all numbers of places beforehand and keep them.
    numbers, stride = tf.reshape(key, [1] * rank), tf.constant(1, tf.uint32)
    for axis in reversed(range(rank)):
        size = tf.cast(part.whole[axis] if part else shape[axis], tf.uint32)
        places = tf.range(shape[axis])
        places = tf.cast(places + part.first[axis] if part else places, tf.uint32) * stride
        numbers += tf.reshape(places, [-1] + [1] * (rank - 1 - axis))
        stride *= size
    return mixed(mixed(numbers) ^ other)


def mixed(x):
    """A bijection of uint32 under which every bit depends on all (`lowbias32`, C. Wellons 2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32))) * tf.constant(
            factor, tf.uint32
        )
    return x ^ tf.bitwise.right_shift(x, tf.constant(16, tf.uint32))


def leading_sizes(x) -> list:
    """The sizes of all axes but the last, as a reshape takes them.

    Known sizes are numbers, and -1 stands for a single one that is not: so no operation asks for a
    shape at every token of decoding.
    """
    sizes = x.shape[:-1].as_list()
    if sizes.count(None) > 1:
        return tf.unstack(tf.shape(x)[:-1])
    return [UNKNOWN if size is None else size for size in sizes]

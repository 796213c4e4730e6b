"""Attention, in training by whichever of XLA and oneDNN computes it faster.

Its products are many and small. Where oneDNN has the processor's widest instructions for them they
stay outside what XLA compiles, as the model's large ones do; elsewhere XLA is the faster.
The softmax is computed in float32; the result has the type of the query.
"""

import functools

import tensorflow as tf

from gpt2_tuning.models.block_attention import MASKED, attend_in_blocks
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.models.kernels import UNKNOWN, Island, compile_it, dropped, leading_sizes
from gpt2_tuning.models.products import small_products_apart
from gpt2_tuning.models.seen import Seen

HALVED_FROM = 128
"""Tokens of a row from which XLA takes attention's first half apart. In shorter rows that saves no
time, and costs some: XLA takes seconds to compile a softmax over 20 to 38 scores."""


def attention(
    query, key, value, visible, seed, *, scale: float, rate: float, compiled: bool, group: int = 1
):
    """Each query's mean of the values it sees, weighted by softmax(scale x query x key).

    Args:
        query: [B, heads, T x group, head_size], a token's queries side by side.
        key: [B, heads, S, head_size].
        value: as `key`.
        visible: bool [B, T, S], or a Seen, by which the scores exist block by block.
        seed: int32 [2], of the weights' dropout; None is inference.
        scale: such as 1 / sqrt(head_size).
        rate: the share of weights that are dropped.
        compiled: whether XLA is to compile it, as far as it is the faster for it. Needs a seed,
            S = T, and that no query sees a later key.
        group: how many queries of a token share a head of keys and values.

    Returns:
        [B, T, heads, group x head_size].
    """
    tensors = (query, key, value, visible, seed)
    if isinstance(visible, Seen):
        most = device_choices().attention_block
        mixed = attend_in_blocks(*tensors, scale=scale, rate=rate, most=most, group=group)
        return by_token(together(mixed, group))
    if compiled and small_products_apart(query.dtype, group):
        return attend_by_onednn(*tensors, scale=scale, rate=rate, group=group)
    mixed = attend_by_xla(
        *tensors, scale=scale, rate=rate, halved=compiled, group=group, compiled=compiled
    )
    return by_token(together(mixed, group))


def by_token(x):
    """[B, heads, T, head_size] to [B, T, heads, head_size], and back."""
    return tf.transpose(x, [0, 2, 1, 3])


def together(x, group: int):
    """[B, heads, T x group, n] to [B, heads, T, group x n], which moves nothing in memory."""
    if group == 1:
        return x
    batch, heads, rows = leading_sizes(x)
    rows = UNKNOWN if rows is UNKNOWN else rows // group
    return tf.reshape(x, [batch, heads, rows, group * x.shape[3]])


def apart(x, group: int):
    """[B, heads, T, group x n] to [B, heads, T x group, n], which moves nothing in memory."""
    if group == 1:
        return x
    batch, heads, rows = leading_sizes(x)
    rows = UNKNOWN if rows is UNKNOWN else rows * group
    return tf.reshape(x, [batch, heads, rows, x.shape[3] // group])


def seen_by_all(visible, group: int):
    """bool [B, T, S] to [B, T x group, S]; where T is 1 as it is, since one row serves for all."""
    if group == 1 or visible.shape[1] == 1:
        return visible
    return tf.repeat(visible, group, axis=1)


def attend_by_onednn(query, key, value, visible, seed, scale: float, rate: float, group: int = 1):
    """As `attention`, with a gradient that keeps its arguments, its result and each row's sums."""
    weights_and_sums, gradients = compiled_softmax(scale, rate, group)

    @tf.custom_gradient
    def call(query, key, value):
        scores = tf.matmul(query, key, transpose_b=True)
        weights, *sums = weights_and_sums(scores, visible, seed)
        mixed = by_token(together(tf.matmul(weights, value), group))

        def backward(upstream):
            by_head = apart(by_token(upstream), group)
            # Without this the graph would keep the scores from the forward pass.
            with tf.control_dependencies([upstream]):
                scores = tf.matmul(query, key, transpose_b=True)
            towards = tf.matmul(by_head, value, transpose_b=True)
            weights, towards = gradients(scores, visible, seed, *sums, towards, mixed, upstream)
            return (
                tf.matmul(towards, key),
                tf.matmul(towards, query, transpose_a=True),
                tf.matmul(weights, by_head, transpose_a=True),
            )

        return mixed, backward

    return call(query, key, value)


@functools.cache
def compiled_softmax(scale: float, rate: float, group: int = 1):
    """The softmax of scaled scores after dropout, and its gradient, compiled.

    Returns:
        A function of scores [B, heads, T x group, S], `visible` and `seed` that gives the weights
        in the type of the scores and, float32 [B, heads, T x group, 1], the largest scaled score of
        each row and the sum of its powers; and one that takes these, what came out of `attention`
        and the gradients for the weights and for that, and gives the weights and the scores'
        gradient.
    """

    @compile_it
    def forward(scores, visible, seed):
        scaled = masked(scores, seen_by_all(visible, group), scale)
        largest = tf.reduce_max(scaled, axis=-1, keepdims=True)
        powers = tf.exp(scaled - largest)
        total = tf.reduce_sum(powers, axis=-1, keepdims=True)
        return tf.cast(dropped(powers / total, seed, rate), scores.dtype), largest, total

    @compile_it
    def backward(scores, visible, seed, largest, total, towards, mixed, upstream):
        visible = seen_by_all(visible, group)
        weights = tf.exp(masked(scores, visible, scale) - largest) / total
        # The sum over keys of weight times its gradient is that over channels of the result times
        # its own (Dao et al. 2022, https://arxiv.org/abs/2205.14135): the shorter of the two.
        along = tf.cast(mixed, tf.float32) * tf.cast(upstream, tf.float32)
        along = tf.reshape(along, [*tf.unstack(tf.shape(along)[:3]), group, -1])
        along = apart(by_token(tf.reduce_sum(along, axis=-1)), group)
        towards = dropped(tf.cast(towards, tf.float32), seed, rate)
        # Where a query sees nothing, its weights are even and its scores constants.
        gradient = tf.where(visible[:, tf.newaxis], weights * (towards - along) * scale, 0.0)
        weights = dropped(weights, seed, rate)
        return tf.cast(weights, scores.dtype), tf.cast(gradient, scores.dtype)

    return forward, backward


@functools.partial(Island, jointly=True)
def attend_by_xla(
    query, key, value, visible, seed, scale: float, rate: float, halved: bool, group: int = 1
):
    """As `attention`, all of it compiled; [B, heads, T x group, head_size].

    Args:
        query, key, value, visible, seed, scale, rate, group: as there.
        halved: computes the first half of the queries of a long row apart, against the first half
            of the keys; so a quarter of the work is left out. Needs S = T, and that no query sees
            a later key.
    """
    if not halved:
        return attend(query, key, value, visible, seed, scale, rate, group)
    tokens = tf.shape(key)[2]
    half = tf.where(tokens < HALVED_FROM, 0, tokens // 2)
    earlier = attend(
        query[:, :, : half * group],
        key[:, :, :half],
        value[:, :, :half],
        visible[:, :half, :half],
        seed,
        scale,
        rate,
        group,
    )
    # Far from the seeds of all other steps, which count up.
    seed = None if seed is None else seed + tf.constant([0, 2**30])
    query = query[:, :, half * group :]
    later = attend(query, key, value, visible[:, half:], seed, scale, rate, group)
    return tf.concat([earlier, later], axis=2)


def attend(query, key, value, visible, seed, scale: float, rate: float, group: int = 1):
    """As `attention`, all at once; [B, heads, T x group, head_size].

    Keys and values from a cache may be in its `cache_type`.
    """
    dtype = query.dtype
    query = tf.cast(query * tf.cast(scale, dtype), key.dtype)
    visible = seen_by_all(visible, group)
    if query.shape[2] == group and seed is None and taken_at_once(dtype):
        return tf.cast(attend_once(query, key, value, visible), dtype)
    weights = tf.nn.softmax(masked(tf.matmul(query, key, transpose_b=True), visible))
    mixed = tf.matmul(tf.cast(dropped(weights, seed, rate), value.dtype), value)
    return tf.cast(mixed, dtype)


def taken_at_once(dtype: tf.DType) -> bool:
    """Whether `attend_once` is for this type here: not for float16, nor where XLA compiles all."""
    return dtype in (tf.float32, tf.bfloat16) and not device_choices().whole


def cache_type(dtype: tf.DType) -> tf.DType:
    """The type in which a cache holds keys and values of this one, for the sake of `attend_once`.

    Its products take three times as long in bfloat16 as in float32, where no unit computes them.
    """
    return tf.float32 if taken_at_once(dtype) else dtype


def attend_once(query, key, value, visible):
    """As `attend` with a single token a row, whose query is scaled already, without dropout.

    Its operations are such as oneDNN does not take over: its preparations for each took longer
    than so little work, 4 of the 36 ms in which a GPT-2 124M decodes a token on two cores.
    """
    multiply = functools.partial(tf.raw_ops.BatchMatMulV3, Tout=query.dtype)
    scores = masked(multiply(x=query, y=key, adj_y=True), visible)
    powers = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
    weights = powers / tf.reduce_sum(powers, axis=-1, keepdims=True)
    return multiply(x=tf.cast(weights, value.dtype), y=value)


def masked(scores, visible, scale: float = 1.0):
    """Scaled scores [B, heads, T, S] in float32, those of tokens a query does not see MASKED."""
    return tf.where(visible[:, tf.newaxis], tf.cast(scores, tf.float32) * scale, MASKED)

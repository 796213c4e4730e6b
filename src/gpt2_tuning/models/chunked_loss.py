"""The loss over the vocabulary without its logits, its gradient computed in the forward pass."""

import tensorflow as tf

from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.models.kernels import compile_it
from gpt2_tuning.models.products import product, product_type

ROUND = 32
"""Chunks have a multiple of so many rows, since what is compiled is compiled for each size."""


def chunk_rows(dtype: tf.DType | str) -> int:
    """How many rows of logits exist at one time when the hidden states have this type."""
    return device_choices().logit_rows[product_type(dtype).size]


def weighted_cross_entropy(hidden, table, targets, weights, train_table: bool):
    """The language model's loss without its logits: they exist `chunk_rows` at a time.

    The gradient is computed in the forward pass, while a chunk's logits are there, so nothing of
    the size of the logits is kept for the backward pass.

    Args:
        hidden: [N, C] in the compute type.
        table: [V, C], the token embedding that scores the next token; in the compute type.
        targets: int32 [N].
        weights: float32 [N]; rows of weight 0 count for nothing.
        train_table: whether a gradient for `table` is wanted.

    Returns:
        The sum of weight x cross-entropy and the sum of weights whose likeliest token is the
        target, both float32 scalars. Only the first has a gradient.
    """

    @tf.custom_gradient
    def sums_of(hidden, table):
        totals, hidden_gradient, table_gradient = chunked_loss(
            hidden, table, targets, weights, gradients=True, train_table=train_table
        )

        def backward(upstream, _):
            # In float32: float16 could not hold a scaled loss's upstream gradient.
            scaled = tf.cast(upstream * tf.cast(hidden_gradient, tf.float32), hidden.dtype)
            if not train_table:
                return scaled, None
            return scaled, tf.cast(upstream * table_gradient, table.dtype)

        return (totals[0], totals[1]), backward

    return sums_of(hidden, table)


def cross_entropy_sums(hidden, table, targets, weights):
    """The same two sums without any gradient, for evaluation."""
    totals, _, _ = chunked_loss(hidden, table, targets, weights, gradients=False, train_table=False)
    return totals[0], totals[1]


def chunked_loss(hidden, table, targets, weights, gradients: bool, train_table: bool):
    """Runs over the rows in chunks.

    Returns:
        float32 [2], the weighted losses and hits; the gradient of the first for `hidden`, [N, C];
        and that for `table`, float32 [V, C] (both of them empty where they are not wanted).
    """
    rows, width = tf.shape(hidden)[0], hidden.shape[1]
    # As few chunks as can be, all of one size; the rows that fill the last have weight 0.
    most = chunk_rows(hidden.dtype)
    chunks = (rows + most - 1) // most
    size = (rows + chunks - 1) // tf.maximum(chunks, 1)
    size = (size + ROUND - 1) // ROUND * ROUND
    missing = chunks * size - rows
    hidden = tf.reshape(tf.pad(hidden, [[0, missing], [0, 0]]), [chunks, size, width])
    targets = tf.reshape(tf.pad(targets, [[0, missing]]), [chunks, size])
    weights = tf.reshape(tf.pad(weights, [[0, missing]]), [chunks, size])
    table = tf.cast(table, product_type(table.dtype))  # once, not for every chunk

    def one_chunk(index, totals, hidden_gradients, table_gradient):
        part = hidden[index]
        chunk = (product(part, table, transpose_b=True), targets[index], weights[index])
        if not gradients:
            return index + 1, totals + chunk_sums(*chunk), hidden_gradients, table_gradient
        sums, errors = sums_and_errors(*chunk)
        hidden_gradients = hidden_gradients.write(index, product(errors, table))
        if train_table:
            table_gradient += tf.cast(product(errors, part, transpose_a=True), tf.float32)
        return index + 1, totals + sums, hidden_gradients, table_gradient

    start = (
        tf.constant(0),
        tf.zeros([2]),
        tf.TensorArray(hidden.dtype, size=chunks, element_shape=[None, width]),
        tf.zeros(tf.shape(table) if train_table else [0]),
    )
    _, totals, hidden_gradients, table_gradient = tf.while_loop(
        lambda index, *_: index < chunks, one_chunk, start, parallel_iterations=1
    )
    if not gradients:
        return totals, None, None
    return totals, tf.reshape(hidden_gradients.stack(), [-1, width])[:rows], table_gradient


def chunk_sums(logits, targets, weights):
    """One chunk's two sums, float32 [2], from its logits, [n, V]."""
    logits = tf.cast(logits, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    hits = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == targets, tf.float32)
    return weighted_sums(losses, hits, weights)


@compile_it
def sums_and_errors(logits, targets, weights):
    """The same two sums, and the gradient of the first for the logits, in their type."""
    exact = tf.cast(logits, tf.float32)
    places = tf.range(tf.shape(exact)[1])
    hot = places == targets[:, tf.newaxis]
    largest = tf.reduce_max(exact, axis=1, keepdims=True)
    powers = tf.exp(exact - largest)
    total = tf.reduce_sum(powers, axis=1, keepdims=True)
    own = tf.reduce_sum(tf.where(hot, exact, 0.0), axis=1, keepdims=True)
    losses = (tf.math.log(total) + largest - own)[:, 0]
    # The first of the largest, as argmax has it: XLA's own is the slower.
    first = tf.reduce_min(tf.where(exact == largest, places, places[-1]), axis=1)
    hits = tf.cast(first == targets, tf.float32)
    errors = (powers / total - tf.cast(hot, tf.float32)) * weights[:, tf.newaxis]
    return weighted_sums(losses, hits, weights), tf.cast(errors, logits.dtype)


def weighted_sums(losses, hits, weights):
    """float32 [2] from float32 [n] each."""
    return tf.stack([tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights)])

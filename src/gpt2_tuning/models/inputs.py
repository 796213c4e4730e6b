"""What follows from a batch's inputs: who sees whom, and where each token is.

One rule serves padded, packed and cached input alike: from the mask follows which tokens a token
sees, and its position is the number of them before it.
"""

import tensorflow as tf

from gpt2_tuning.data.inputs import Inputs


def visible_tokens(inputs: Inputs) -> tf.Tensor:
    """Which tokens each token sees: bool [B, T, T], from the mask or the segments, never from ids.

    attention_mask [[1, 1, 0]] gives [[[T, F, F], [T, T, F], [T, T, F]]].
    """
    length = tf.shape(inputs["token_ids"])[1]
    causal = tf.range(length)[:, tf.newaxis] >= tf.range(length)  # [T, T]
    segments = inputs.get("segment_ids")
    if segments is None:
        return causal & tf.cast(inputs["attention_mask"], tf.bool)[:, tf.newaxis, :]
    same = segments[:, :, tf.newaxis] == segments[:, tf.newaxis, :]
    return causal & same & (segments > 0)[:, tf.newaxis, :]


def positions_of(visible: tf.Tensor) -> tf.Tensor:
    """Each token's position, int32 [B, T]: how many tokens before itself it sees.

    It is counted before a layer's window hides any of them.

    Args:
        visible: bool [B, T, S].
    """
    # Fully masked rows (padding) would give -1.
    return tf.maximum(tf.reduce_sum(tf.cast(visible, tf.int32), axis=2) - 1, 0)


def within_window(visible: tf.Tensor, queries, keys, window: int) -> tf.Tensor:
    """What of `visible` is among the newest `window` tokens that each token sees, itself included.

    Args:
        visible: bool [B, T, S], before any window.
        queries: int32 [B, T], the positions of the tokens that see.
        keys: int32 [B, S], of those that are seen.
        window: of at least 1.
    """
    return visible & (queries[:, :, tf.newaxis] - keys[:, tf.newaxis] < window)


def gathered(x: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The places `at`, int32 [B, K], of x, [B, T, C]: [B, K, C]."""
    return tf.gather(x, at, axis=1, batch_dims=1)


def last_real_token(attention_mask: tf.Tensor) -> tf.Tensor:
    """Index of each row's last real token: int32 [B, T] mask to int32 [B].

    [[1, 1, 0], [1, 1, 1]] gives [1, 2]; a row of padding alone gives 0.
    """
    mask = tf.cast(attention_mask, tf.int32)
    return tf.reduce_max(mask * tf.range(tf.shape(mask)[1]), axis=1)

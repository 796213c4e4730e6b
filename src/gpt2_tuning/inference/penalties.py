"""Scores changed by what a row holds already: penalties, and n-grams that may not come again.

Each row has values of its own; those that change nothing leave its scores as they are, to the bit.
"""

import math

import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues

NO_TOKEN = -1
"""Stands in a history where a row has no token."""


def penalised(logits, history, filled, prompted, values: RowValues) -> tf.Tensor:
    """The scores after the rows' penalties and n-grams; nothing is computed if no row has any.

    Args:
        logits: float32 [B, V].
        history: int32 [B, S], the rows' tokens, with NO_TOKEN where there is none.
        filled: int32 scalar, the slots of `history` up to the newest token.
        prompted: int32 [B], the slots of `history` up to the end of the prompt.
        values: of the rows.

    Returns:
        float32 [B, V].
    """

    def changed():
        said = history[:, :filled]
        scores = less_repetition(logits, said, values)
        scores = less_counted(scores, said, prompted, values)
        return without_ngrams(scores, said, values)

    return tf.cond(tf.reduce_any(values.has_penalties), changed, lambda: logits)


def less_repetition(logits, history, values: RowValues) -> tf.Tensor:
    """The scores with the repetition penalty on every token of `history`, once for each token.

    Sources: Keskar et al. 2019, https://arxiv.org/abs/1909.05858, and for scores below 0
    transformers' RepetitionPenaltyLogitsProcessor.
    """
    places = places_of(history, logits)
    scores = tf.gather_nd(logits, places)
    penalty = tf.gather(values.repetition_penalty, places[:, 0])
    scores = tf.where(scores < 0, scores * penalty, scores / penalty)
    return tf.tensor_scatter_nd_update(logits, places, scores)


def less_counted(logits, history, prompted, values: RowValues) -> tf.Tensor:
    """The scores less the presence and frequency penalties on the tokens after the prompt.

    Source: https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    new = tf.range(tf.shape(history)[1]) >= prompted[:, tf.newaxis]
    places = places_of(history, logits, new)
    size = tf.shape(logits, tf.int64)
    counts = tf.scatter_nd(places, tf.ones_like(places[:, 0], tf.float32), size)
    frequency = counts * values.frequency_penalty[:, tf.newaxis]
    presence = tf.minimum(counts, 1) * values.presence_penalty[:, tf.newaxis]
    return logits - frequency - presence


def without_ngrams(logits, history, values: RowValues) -> tf.Tensor:
    """The scores with -inf where a token would end an n-gram that `history` holds already.

    With n = 2 and the tokens 5 6 7 5, the token 6 may not follow. Source: transformers'
    NoRepeatNGramLogitsProcessor, which has it from fairseq.
    """
    length = tf.shape(history)[1]
    slots, n = tf.range(length), values.no_repeat_ngram
    # Each token as the last of an n-gram: are those before it the newest ones of its row?
    back = tf.range(1, tf.clip_by_value(tf.reduce_max(n), 1, length + 1))  # [N - 1]
    places = slots[:, tf.newaxis] - back  # [S, N - 1]
    before = tf.gather(history, tf.maximum(places, 0), axis=1)  # [B, S, N - 1]
    newest = tf.gather(history, length - back, axis=1)[:, tf.newaxis]  # [B, 1, N - 1]
    same = (before == newest) & (before != NO_TOKEN) & (places >= 0)
    same |= back >= n[:, tf.newaxis, tf.newaxis]
    banned = tf.reduce_all(same, axis=2) & (n > 0)[:, tf.newaxis]
    places = places_of(history, logits, banned)
    return tf.tensor_scatter_nd_update(logits, places, tf.fill([tf.shape(places)[0]], -math.inf))


def places_of(history, logits, chosen=True) -> tf.Tensor:
    """Where in `logits`, [B, V], the scores of a history's chosen tokens are: int64 [N, 2].

    Ids that have no score are left out: a prompt may hold some. `chosen` is bool [B, S].
    """
    slots = tf.where(chosen & (history != NO_TOKEN) & (history < tf.shape(logits)[1]))
    tokens = tf.cast(tf.gather_nd(history, slots), tf.int64)
    return tf.stack([slots[:, 0], tokens], axis=1)

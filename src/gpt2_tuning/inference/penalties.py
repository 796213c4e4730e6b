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
        scores = less_repetition(logits, history, values)
        scores = less_counted(scores, history, prompted, values)
        return without_ngrams(scores, history, filled, values)

    return tf.cond(tf.reduce_any(values.has_penalties), changed, lambda: logits)


def less_repetition(logits, history, values: RowValues) -> tf.Tensor:
    """The scores with the repetition penalty on every token of `history`, once for each token.

    Sources: Keskar et al. 2019, https://arxiv.org/abs/1909.05858, and for scores below 0
    transformers' RepetitionPenaltyLogitsProcessor.
    """
    penalty = values.repetition_penalty[:, tf.newaxis]
    scores = tf.where(logits < 0, logits * penalty, logits / penalty)
    return tf.where(counts_of(history, logits) > 0, scores, logits)


def less_counted(logits, history, prompted, values: RowValues) -> tf.Tensor:
    """The scores less the presence and frequency penalties on the tokens after the prompt.

    Source: https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    new = tf.range(tf.shape(history)[1]) >= prompted[:, tf.newaxis]
    counts = counts_of(history, logits, new)
    frequency = counts * values.frequency_penalty[:, tf.newaxis]
    presence = tf.minimum(counts, 1) * values.presence_penalty[:, tf.newaxis]
    return logits - frequency - presence


def without_ngrams(logits, history, filled, values: RowValues) -> tf.Tensor:
    """The scores with -inf where a token would end an n-gram that `history` holds already.

    With n = 2 and the tokens 5 6 7 5, the token 6 may not follow. Source: transformers'
    NoRepeatNGramLogitsProcessor, which has it from fairseq.
    """
    slots, n = tf.range(tf.shape(history)[1]), values.no_repeat_ngram[:, tf.newaxis]

    # Each token as the last of an n-gram: are those before it the newest ones of its row?
    def same_as_newest(back, same):
        before = tf.gather(history, tf.maximum(slots - back, 0), axis=1)  # [B, S]
        newest = tf.gather(history, filled - back, axis=1)[:, tf.newaxis]  # [B, 1]
        equal = (before == newest) & (before != NO_TOKEN) & (slots >= back)
        return back + 1, same & (equal | (back >= n))

    most = tf.minimum(tf.reduce_max(n), filled + 1)
    first = tf.constant(1), tf.zeros_like(history, tf.bool) | (n > 0)
    _, banned = tf.while_loop(lambda back, same: back < most, same_as_newest, first)
    return tf.where(counts_of(history, logits, banned) > 0, -math.inf, logits)


def counts_of(history, logits, chosen=True) -> tf.Tensor:
    """How often each row's history has a token, in the chosen slots, bool [B, S]: float32 [B, V].

    Ids that have no score are left out: a prompt may hold some. No shape depends on what is there.
    """
    rows, vocabulary = tf.shape(history)[0], tf.shape(logits)[1]
    counted = tf.cast(chosen & (history != NO_TOKEN) & (history < vocabulary), tf.float32)
    # What does not count adds 0 to the first token.
    tokens = tf.where(counted > 0, history, 0)
    row = tf.broadcast_to(tf.range(rows)[:, tf.newaxis], tf.shape(history))
    return tf.scatter_nd(tf.stack([row, tokens], axis=2), counted, tf.shape(logits))

"""How next tokens are chosen from scores: each row by values of its own, all of which are data.

One computation serves every mixture of rows, and what none of them asks for is not computed. Two
parts of it have a form for what XLA compiles (`compiled`), which gives the same tokens.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.inference import philox
from gpt2_tuning.inference.choices import Choices

NUCLEUS_CANDIDATES = 1024
"""How many of the likeliest tokens are sorted for a nucleus, before all of them are.

Where XLA compiles the loop, so many are sorted for every top_k up to it: it needs a number."""


class RowValues(NamedTuple):
    """The numbers of Choices for each row; what they mean is said there."""

    temperature: tf.Tensor  # float32 [B]
    top_k: tf.Tensor  # int32 [B]
    top_p: tf.Tensor  # float32 [B]
    min_p: tf.Tensor  # float32 [B]
    repetition_penalty: tf.Tensor  # float32 [B]
    presence_penalty: tf.Tensor  # float32 [B]
    frequency_penalty: tf.Tensor  # float32 [B]
    no_repeat_ngram: tf.Tensor  # int32 [B]
    has_penalties: tf.Tensor  # bool [B], whether one of the four is set
    seed: tf.Tensor  # int64 [B]
    max_new_tokens: tf.Tensor  # int32 [B]

    @classmethod
    def of(cls, choices: Sequence[Choices]) -> "RowValues":
        """Those of some Choices a row."""

        def column(name: str, dtype: tf.DType) -> tf.Tensor:
            return tf.constant([getattr(row, name) for row in choices], dtype)

        return cls(
            temperature=column("temperature", tf.float32),
            top_k=column("top_k", tf.int32),
            top_p=column("top_p", tf.float32),
            min_p=column("min_p", tf.float32),
            repetition_penalty=column("repetition_penalty", tf.float32),
            presence_penalty=column("presence_penalty", tf.float32),
            frequency_penalty=column("frequency_penalty", tf.float32),
            no_repeat_ngram=column("no_repeat_ngram", tf.int32),
            has_penalties=column("has_penalties", tf.bool),
            seed=column("seed", tf.int64),
            max_new_tokens=column("max_new_tokens", tf.int32),
        )

    def repeated(self, times) -> "RowValues":
        """The same for `times` rows in place of each."""
        return RowValues(*(tf.repeat(value, times) for value in self))


def next_tokens(logits, seeds, values: RowValues, compiled: bool = False) -> tf.Tensor:
    """The next token of every row, by its temperature, top_k, top_p and min_p.

    Args:
        logits: float32 [B, V], -inf where a token may not be chosen.
        seeds: int64 [B, 2], as Sampler's.
        values: of the rows.
        compiled: whether XLA compiles it.

    Returns:
        int32 [B].
    """
    drawn = values.temperature > 0

    def draws():
        cut = drawn & ((values.top_k > 0) | (values.top_p < 1))
        noise = noise_for_xla(logits, seeds) if compiled else noise_of(seeds, tf.shape(logits)[1])
        tokens = tf.zeros_like(values.top_k)
        tokens = where_asked(~drawn, lambda: likeliest(logits), tokens)
        tokens = where_asked(drawn & ~cut, lambda: draw_from_all(logits, noise, values), tokens)
        among = (logits, noise, values, cut, compiled)
        return where_asked(cut, lambda: draw_from_likeliest(*among), tokens)

    # Only one question a step where nothing is drawn.
    return tf.cond(tf.reduce_any(drawn), draws, lambda: likeliest(logits))


def where_asked(rows, compute: Callable[[], tf.Tensor], otherwise) -> tf.Tensor:
    """`compute()` in the rows that ask for it, bool [B], and `otherwise` in others: [B, ...] both.

    It is not computed where no row asks.
    """
    shape = [-1] + [1] * (len(otherwise.shape) - 1)
    return tf.cond(
        tf.reduce_any(rows),
        lambda: tf.where(tf.reshape(rows, shape), compute(), otherwise),
        lambda: otherwise,
    )


def likeliest(logits) -> tf.Tensor:
    """The token with the highest score, int32 [B]; of equals the one with the lowest id."""
    return tf.argmax(logits, axis=1, output_type=tf.int32)


def draw_from_all(logits, noise, values: RowValues) -> tf.Tensor:
    """One token a row, int32 [B], of all that min_p leaves of `logits`, float32 [B, V]."""
    scores = logits / temperatures(values)

    def likely_enough():
        return kept_alone(scores, scores >= least(scores, values))

    return draw(where_asked(values.min_p > 0, likely_enough, scores), noise)


def draw_from_likeliest(logits, noise, values: RowValues, cut, compiled=False) -> tf.Tensor:
    """One token a row of those that top_k, top_p and min_p leave, in this order.

    No more tokens are sorted than the rows' top_k, or NUCLEUS_CANDIDATES: to sort all takes longer.

    Args:
        logits: float32 [B, V].
        noise: float32 [B, V], from `noise_of`.
        values: of the rows.
        cut: bool [B], the rows that have a top_k or a top_p; the others' tokens mean nothing.
        compiled: whether XLA compiles it.

    Returns:
        int32 [B].
    """
    size = tf.shape(logits)[1]
    k, p = values.top_k[:, tf.newaxis], values.top_p[:, tf.newaxis]
    of_all = where_asked(
        cut & (values.top_k == 0),
        lambda: tf.reduce_logsumexp(logits / temperatures(values), axis=1, keepdims=True),
        tf.zeros_like(p),
    )

    def nucleus(candidates):
        best, tokens = tf.math.top_k(logits, candidates)
        best /= temperatures(values)
        among = (k == 0) | (tf.range(candidates) < k)
        of_these = tf.reduce_logsumexp(kept_alone(best, among), axis=1, keepdims=True)
        reached = tf.cumsum(tf.exp(best - tf.where(k > 0, of_these, of_all)), axis=1)
        before = tf.pad(reached[:, :-1], [[0, 0], [1, 0]])
        # Rounded sums may be 1 before the last token.
        kept = among & ((before < p) | (p == 1)) & (best >= least(best, values))
        return kept_alone(best, kept), tokens, reached[:, -1]

    wanted = tf.where(values.top_k > 0, values.top_k, NUCLEUS_CANDIDATES)
    if compiled:
        size = logits.shape[1]
        most = min(NUCLEUS_CANDIDATES, size)
    else:
        most = tf.minimum(tf.reduce_max(tf.where(cut, wanted, 1)), size)
    best, tokens, reached = nucleus(most)
    enough = tf.reduce_all((reached >= values.top_p) | (values.top_k > 0) | ~cut)
    if compiled and most < size:
        enough &= tf.reduce_all((values.top_k <= most) | ~cut)

    def drawn_of_all():
        best, tokens, _ = nucleus(size)
        return draw(best, noise, tokens)

    return tf.cond(enough, lambda: draw(best, noise, tokens), drawn_of_all)


def temperatures(values: RowValues) -> tf.Tensor:
    """The rows' temperatures, float32 [B, 1]; 1 where nothing is drawn, to divide by."""
    drawn = values.temperature > 0
    return tf.where(drawn, values.temperature, 1)[:, tf.newaxis]


def least(scores, values: RowValues) -> tf.Tensor:
    """The lowest score that min_p keeps, float32 [B, 1]: probabilities' ratios are differences."""
    highest = tf.reduce_max(scores, axis=1, keepdims=True)
    return highest + tf.math.log(values.min_p)[:, tf.newaxis]


def kept_alone(scores, kept) -> tf.Tensor:
    """The scores with -inf, which is never drawn, where they are not kept."""
    return tf.where(kept, scores, -math.inf)


def noise_of(seeds, vocabulary) -> tf.Tensor:
    """A number from 0 to 1 for every token, float32 [B, V], from each row's own seeds."""

    def uniform(row_seeds):
        # Never 0, whose logarithm is infinite.
        return tf.random.stateless_uniform([vocabulary], row_seeds, minval=1e-37)

    return tf.map_fn(uniform, seeds, fn_output_signature=tf.TensorSpec([None], tf.float32))


def noise_for_xla(logits, seeds) -> tf.Tensor:
    """The same numbers for every token of `logits`, in the form for what XLA compiles."""
    return tf.maximum(philox.uniform(seeds, logits.shape[1]), 1e-37)


def draw(scores, noise, tokens=None) -> tf.Tensor:
    """One token a row, with probability softmax(scores), by noise of its own.

    It is the token with the highest sum of score and Gumbel noise. The noise belongs to the token,
    not to its place in the list: the last bits of the scores, which depend on the batch, may change
    the order of a list, and seldom change this maximum.

    Args:
        scores: float32 [B, N], -inf where the probability is 0.
        noise: float32 [B, V], from `noise_of`.
        tokens: int32 [B, N], the tokens that the scores are for; None is all of them, in order.

    Returns:
        int32 [B].
    """
    if tokens is not None:
        noise = tf.gather(noise, tokens, batch_dims=1)
    places = tf.argmax(scores - tf.math.log(-tf.math.log(noise)), axis=1, output_type=tf.int32)
    return places if tokens is None else tf.gather(tokens, places, batch_dims=1)

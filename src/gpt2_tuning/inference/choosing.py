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

CANDIDATES = 1024
"""How many of the likeliest tokens are sorted for every top_k up to it where XLA compiles the loop,
since it needs a number. For a larger one all are."""


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
        among_few = drawn & (values.top_k > 0)
        among_all = drawn & ~among_few
        noise = noise_for_xla(logits, seeds) if compiled else noise_of(seeds, tf.shape(logits)[1])
        few = (logits, noise, values, among_few, compiled)
        tokens = tf.zeros_like(values.top_k)
        tokens = where_asked(~drawn, lambda: likeliest(logits), tokens)
        tokens = where_asked(
            among_all, lambda: draw_from_nucleus(logits, noise, values, among_all), tokens
        )
        return where_asked(among_few, lambda: draw_from_likeliest(*few), tokens)

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


def draw_from_nucleus(logits, noise, values: RowValues, asked) -> tf.Tensor:
    """One token a row of those that top_p and min_p leave, without sorting any.

    What is drawn from all tokens is, if it is one of the nucleus, what would have been drawn from
    the nucleus: the highest sum of score and noise is. Else that is one of the likelier tokens, and
    is drawn from those. A nucleus of half the probability is found in 2 turns, one of a hundredth
    in 6, on average.

    Args:
        logits: float32 [B, V].
        noise: float32 [B, V], from `noise_of`.
        values: of the rows; their top_k is not looked at.
        asked: bool [B], the rows that this is for; the others' tokens mean nothing.

    Returns:
        int32 [B].
    """
    scores = logits / temperatures(values)
    kept = where_asked(
        asked & (values.min_p > 0),
        lambda: kept_alone(scores, scores >= least(scores, values)),
        scores,
    )
    sums = kept + gumbel(noise)
    tokens = likeliest(sums)
    cut = asked & (values.top_p < 1)

    def in_nucleus():
        shares = tf.nn.softmax(scores)

        def likelier(tokens):
            """Which are before the rows' tokens, bool [B, V]; of equals those with lower ids."""
            score = tf.gather(scores, tokens[:, tf.newaxis], batch_dims=1)
            lower = tf.range(tf.shape(scores)[1]) < tokens[:, tf.newaxis]
            return (scores > score) | ((scores == score) & lower)

        def outside(before):
            reached = tf.reduce_sum(tf.where(before, shares, 0), axis=1)
            # Before the likeliest comes none: it stays in, were top_p so small that it counts as 0.
            return cut & (reached > 0) & (reached >= values.top_p)

        def judged(tokens, sums):
            before = likelier(tokens)
            return tokens, sums, before, outside(before)

        def again(tokens, sums, before, rejected):
            sums = tf.where(rejected[:, tf.newaxis] & ~before, -math.inf, sums)
            return judged(tf.where(rejected, likeliest(sums), tokens), sums)

        return tf.while_loop(lambda *state: tf.reduce_any(state[-1]), again, judged(tokens, sums))[
            0
        ]

    return tf.cond(tf.reduce_any(cut), in_nucleus, lambda: tokens)


def draw_from_likeliest(logits, noise, values: RowValues, asked, compiled=False) -> tf.Tensor:
    """One token a row of those that top_k, top_p and min_p leave, in this order.

    No more tokens are sorted than the rows' top_k.

    Args:
        logits: float32 [B, V].
        noise: float32 [B, V], from `noise_of`.
        values: of the rows.
        asked: bool [B], the rows that have a top_k; the others' tokens mean nothing.
        compiled: whether XLA compiles it.

    Returns:
        int32 [B].
    """
    k, p = values.top_k[:, tf.newaxis], values.top_p[:, tf.newaxis]
    most = tf.reduce_max(tf.where(asked, values.top_k, 1))

    def among(candidates):
        # XLA sorts -0 behind 0, which are equals.
        best, tokens = tf.math.top_k(tf.where(logits == 0, 0.0, logits), candidates)
        best = kept_alone(best / temperatures(values), tf.range(candidates) < k)
        reached = tf.cumsum(tf.nn.softmax(best), axis=1)
        before = tf.pad(reached[:, :-1], [[0, 0], [1, 0]])
        # Rounded sums may be 1 before the last token.
        kept = ((before < p) | (p == 1)) & (best >= least(best, values))
        return draw(kept_alone(best, kept), noise, tokens)

    if not compiled:
        return among(tf.minimum(most, tf.shape(logits)[1]))
    size = logits.shape[1]
    if size <= CANDIDATES:
        return among(size)
    return tf.cond(most <= CANDIDATES, lambda: among(CANDIDATES), lambda: among(size))


def temperatures(values: RowValues) -> tf.Tensor:
    """The rows' temperatures, float32 [B, 1]; 1 where nothing is drawn, to divide by."""
    drawn = values.temperature > 0
    # No quotient may be infinite: all such are equal.
    return tf.where(drawn, tf.maximum(values.temperature, 1e-30), 1)[:, tf.newaxis]


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


def draw(scores, noise, tokens) -> tf.Tensor:
    """One token a row, with probability softmax(scores), by noise of its own.

    It is the token with the highest sum of score and Gumbel noise. The noise belongs to the token,
    not to its place in the list: the last bits of the scores, which depend on the batch, may change
    the order of a list, and seldom change this maximum.

    Args:
        scores: float32 [B, N], -inf where the probability is 0.
        noise: float32 [B, V], from `noise_of`.
        tokens: int32 [B, N], the tokens that the scores are for.

    Returns:
        int32 [B].
    """
    places = likeliest(scores + gumbel(tf.gather(noise, tokens, batch_dims=1)))
    return tf.gather(tokens, places, batch_dims=1)


def gumbel(noise) -> tf.Tensor:
    """Uniform numbers as what is to be added to scores, whose highest is then a draw."""
    return -tf.math.log(-tf.math.log(noise))

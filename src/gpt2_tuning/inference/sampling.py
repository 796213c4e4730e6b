"""How the next token is chosen from its scores; a new way is one small class with one method.

TensorFlow is imported when a sampler first chooses, so that wrong flags are answered before.
"""

import dataclasses
import math
from typing import Any

from gpt2_tuning.checks import is_number
from gpt2_tuning.errors import UserError

SAMPLING_METHODS = ("greedy", "temperature", "top_k", "top_p")
NUCLEUS_CANDIDATES = 1024
"""How many of the likeliest tokens TopP sorts, before it falls back to all of them."""


class Sampler:
    """Chooses one token a row. Samplers hold no state: the same seeds choose the same tokens.

    Make a subclass a frozen dataclass: equal samplers then share one compiled loop.
    """

    def choose(self, logits, seeds) -> Any:
        """The next tokens. It is traced into the decoding loop, so it is made of TensorFlow ops.

        Args:
            logits: float32 [B, V].
            seeds: int64 [B, 2], the call's seed and a number that is another one for every row
                and step. A row's tokens do not depend on the other rows as long as each row uses
                its own seeds only, as `draw` does.

        Returns:
            int32 [B].
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Greedy(Sampler):
    """The likeliest token; of equals the one with the lowest id."""

    def choose(self, logits, seeds):
        """As Sampler's; the seeds are not used."""
        import tensorflow as tf

        return tf.argmax(logits, axis=1, output_type=tf.int32)


@dataclasses.dataclass(frozen=True)
class Temperature(Sampler):
    """From the whole distribution, sharpened (t < 1) or flattened (t > 1)."""

    t: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.t)

    def choose(self, logits, seeds):
        """As Sampler's."""
        return draw(logits / self.t, seeds)


@dataclasses.dataclass(frozen=True)
class TopK(Sampler):
    """From the k likeliest tokens (Fan et al. 2018, https://arxiv.org/abs/1805.04833)."""

    k: int
    t: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise UserError(f"top_k must be a whole number of at least 1, not {self.k!r}")
        check_temperature(self.t)

    def choose(self, logits, seeds):
        """As Sampler's; a k above the vocabulary is all of it."""
        import tensorflow as tf

        scores, tokens = tf.math.top_k(logits, tf.minimum(self.k, tf.shape(logits)[1]))
        return draw(scores / self.t, seeds, tokens, tf.shape(logits)[1])


@dataclasses.dataclass(frozen=True)
class TopP(Sampler):
    """From the nucleus: the smallest set of likeliest tokens whose probabilities reach p.

    The probabilities are those after the temperature. With .5 .3 .2, p = .6 keeps two tokens.
    Source: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751.
    """

    p: float
    t: float = 1.0

    def __post_init__(self) -> None:
        if not is_number(self.p) or not 0 < self.p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, not {self.p!r}")
        check_temperature(self.t)

    def choose(self, logits, seeds):
        """As Sampler's."""
        import tensorflow as tf

        scaled = logits / self.t
        if self.p == 1:
            return draw(scaled, seeds)
        total = tf.reduce_logsumexp(scaled, axis=1, keepdims=True)

        def nucleus(candidates):
            scores, tokens = tf.math.top_k(scaled, candidates)
            reached = tf.cumsum(tf.exp(scores - total), axis=1)
            before = tf.pad(reached[:, :-1], [[0, 0], [1, 0]])
            return scores, tokens, before < self.p, reached[:, -1]

        size = tf.shape(logits)[1]
        first = nucleus(tf.minimum(NUCLEUS_CANDIDATES, size))
        # Sorting all 50,257 takes several times as long, and a nucleus is seldom that large.
        enough = tf.reduce_all(first[3] >= self.p)
        scores, tokens, kept, _ = tf.cond(enough, lambda: first, lambda: nucleus(size))
        return draw(tf.where(kept, scores, -math.inf), seeds, tokens, size)


def draw(scores, seeds, tokens=None, vocabulary=None):
    """One token a row, with probability softmax(scores), from that row's own seeds.

    It is the token with the highest sum of score and Gumbel noise. The noise belongs to the token,
    not to its place in the list: the last bits of the scores, which depend on the batch, may change
    the order of a list, and seldom change this maximum.

    Args:
        scores: float32 [B, N], -inf where the probability is 0.
        seeds: int64 [B, 2].
        tokens: int32 [B, N], the tokens that the scores are for; None is all of them, in order.
        vocabulary: how many tokens there are; needed with `tokens`.

    Returns:
        int32 [B].
    """
    import tensorflow as tf

    size = tf.shape(scores)[1] if tokens is None else vocabulary

    def uniform(row_seeds):
        # Never 0, whose logarithm is infinite.
        return tf.random.stateless_uniform([size], row_seeds, minval=1e-37)

    noise = tf.map_fn(uniform, seeds, fn_output_signature=tf.TensorSpec([None], tf.float32))
    if tokens is not None:
        noise = tf.gather(noise, tokens, batch_dims=1)
    places = tf.argmax(scores - tf.math.log(-tf.math.log(noise)), axis=1, output_type=tf.int32)
    return places if tokens is None else tf.gather(tokens, places, batch_dims=1)


def check_temperature(t: float) -> None:
    """Raises UserError where t is not a number above 0."""
    if not is_number(t) or not 0 < t < math.inf:
        raise UserError(
            f"temperature must be a number above 0, not {t!r}: greedy is for always the likeliest"
        )


def make_sampler(
    method: str = "greedy", temperature: float = 1.0, top_k: int = 50, top_p: float = 0.9
) -> Sampler:
    """The sampler that the flags --sampling_method --temperature --top_k --top_p mean.

    Raises:
        UserError: the method is unknown, or a value is out of range, used or not.
    """
    samplers = {
        "greedy": Greedy(),
        "temperature": Temperature(temperature),
        "top_k": TopK(top_k, temperature),
        "top_p": TopP(top_p, temperature),
    }
    if method not in samplers:
        raise UserError(
            f"unknown sampling method {method!r}: choose one of {', '.join(SAMPLING_METHODS)}"
        )
    return samplers[method]

"""Ways to choose the next token from its scores; a new way is one small class with one method.

TensorFlow is imported when a sampler first chooses, so that wrong flags are answered before.
"""

import dataclasses
import math
from typing import Any

from gpt2_tuning.checks import is_number, is_whole
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.choices import Choices


class Sampler:
    """Chooses one token a row. Samplers hold no state: the same seeds choose the same tokens.

    Each sampler of one's own has a decoding loop compiled for it. Make a subclass a frozen
    dataclass: equal samplers then share one.
    """

    def choose(self, logits, seeds) -> Any:
        """The next tokens. It is traced into the decoding loop, so it is made of TensorFlow ops.

        Args:
            logits: float32 [B, V].
            seeds: int64 [B, 2], the row's seed and a number that is another one for every row
                and step. A row's tokens do not depend on the other rows as long as each row uses
                its own seeds only, as `choosing.noise_of` does.

        Returns:
            int32 [B].
        """
        raise NotImplementedError


class ValueSampler(Sampler):
    """A sampler that is nothing but some Choices: all of these share one loop."""

    def values(self) -> dict[str, Any]:
        """Fields of Choices that say the same."""
        raise NotImplementedError

    def choose(self, logits, seeds):
        """As Sampler's."""
        import tensorflow as tf

        from gpt2_tuning.inference.choosing import RowValues, next_tokens

        values = RowValues.of([Choices(**self.values())]).repeated(tf.shape(logits)[0])
        return next_tokens(logits, seeds, values)


@dataclasses.dataclass(frozen=True)
class Greedy(ValueSampler):
    """The likeliest token; of equals the one with the lowest id."""

    def values(self) -> dict[str, Any]:
        """As ValueSampler's."""
        return {"temperature": 0.0}


@dataclasses.dataclass(frozen=True)
class Temperature(ValueSampler):
    """From the whole distribution, sharpened (t < 1) or flattened (t > 1)."""

    t: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.t)

    def values(self) -> dict[str, Any]:
        """As ValueSampler's."""
        return {"temperature": self.t}


@dataclasses.dataclass(frozen=True)
class TopK(ValueSampler):
    """From the k likeliest tokens (Fan et al. 2018, https://arxiv.org/abs/1805.04833).

    A k above the vocabulary is all of it.
    """

    k: int
    t: float = 1.0

    def __post_init__(self) -> None:
        if not is_whole(self.k, least=1):
            raise UserError(f"top_k must be a whole number of at least 1, not {self.k!r}")
        check_temperature(self.t)

    def values(self) -> dict[str, Any]:
        """As ValueSampler's."""
        return {"top_k": self.k, "temperature": self.t}


@dataclasses.dataclass(frozen=True)
class TopP(ValueSampler):
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

    def values(self) -> dict[str, Any]:
        """As ValueSampler's."""
        return {"top_p": self.p, "temperature": self.t}


def check_temperature(t: float) -> None:
    """Raises UserError where t is not a number above 0."""
    if not is_number(t) or not 0 < t < math.inf:
        raise UserError(
            f"temperature must be a number above 0, not {t!r}: greedy is for always the likeliest"
        )


def values_of(sampler: Sampler) -> dict[str, Any] | None:
    """Fields of a Generation that say what the sampler does; None where no values do."""
    # A subclass may choose in another way than its values say.
    if isinstance(sampler, ValueSampler) and type(sampler).choose is ValueSampler.choose:
        return sampler.values()
    return None

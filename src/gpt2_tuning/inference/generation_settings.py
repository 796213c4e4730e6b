"""How a prompt is to be continued, as one value that can be compared and handed around.

No TensorFlow is needed to make one, so that wrong values are answered before it is imported.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from gpt2_tuning.checks import is_number
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.choices import Choices
from gpt2_tuning.inference.sampling import Sampler, values_of


@dataclasses.dataclass(frozen=True)
class Generation(Choices):
    """How a prompt is to be continued.

    The scores go through the penalties, no_repeat_ngram, temperature, top_k, top_p and min_p, in
    this order, and one of the tokens that are left is drawn. At a temperature of 0 it is the
    likeliest, which the last three never remove.

    Raises:
        UserError: a value is out of its range; it names the field.
    """

    stop: Sequence[str] = ()
    """Texts before which the continuation ends; one alone may be given as such."""
    sampler: Sampler | None = None
    """One of your own, which chooses in place of temperature, top_k, top_p and min_p. Greedy(),
    Temperature(t), TopK(k, t) and TopP(p, t) only say values of these, and are replaced by them."""

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, Sequence) or not all(isinstance(word, str) for word in stop):
            raise UserError(f"stop must be a text or a list of texts, not {self.stop!r}")
        self._set(stop=tuple(stop))
        if "" in self.stop:
            raise UserError("a stop string is empty: leave it out")
        if self.sampler is not None:
            self._take(self.sampler)
        for name, (holds, wanted) in RANGES.items():
            value = getattr(self, name)
            if not holds(value):
                raise UserError(f"{name} must be {wanted}, not {value!r}")

    def _take(self, sampler: Sampler) -> None:
        """Replaces a sampler that only says values by these."""
        if not isinstance(sampler, Sampler):
            raise UserError(f"sampler must be a Sampler such as TopP(0.9), not {sampler!r}")
        for name in ("temperature", "top_k", "top_p", "min_p"):
            if getattr(self, name) != getattr(Generation, name):
                raise UserError(f"the sampler chooses by itself: leave out {name}")
        values = values_of(sampler)
        if values is not None:
            self._set(**values, sampler=None)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def between(low: float, high: float) -> Callable[[Any], bool]:
    """Whether a value is a number from `low` to `high`."""
    return lambda value: is_number(value) and low <= value <= high


def whole(low: int, limit: int) -> Callable[[Any], bool]:
    """Whether a value is a whole number of at least `low` and below `limit`."""
    return lambda value: (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and low <= int(value) < limit
    )


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda t: is_number(t) and 0 <= t < math.inf, "a number of at least 0"),
    "top_k": (whole(0, 2**31), "a whole number of at least 0, which is all, and below 2^31"),
    "top_p": (lambda p: is_number(p) and 0 < p <= 1, "above 0 and at most 1"),
    "min_p": (between(0, 1), "from 0 to 1"),
    "repetition_penalty": (
        lambda penalty: is_number(penalty) and 0 < penalty < math.inf,
        "a number above 0",
    ),
    "presence_penalty": (between(-2, 2), "from -2 to 2"),
    "frequency_penalty": (between(-2, 2), "from -2 to 2"),
    "no_repeat_ngram": (whole(0, 2**31), "a whole number of at least 0 and below 2^31"),
    "seed": (whole(-(2**63), 2**63), "a whole number of 64 bits"),
    "max_new_tokens": (whole(1, 2**31), "at least 1"),
}
"""What each field may be, and how that is said."""

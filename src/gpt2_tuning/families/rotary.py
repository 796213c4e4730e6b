"""By how much queries and keys are rotated, and how config.json says it.

Rotary positions are of Su et al. 2021, https://arxiv.org/abs/2104.09864; their scalings are as
transformers computes them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gpt2_tuning import schema
from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.schema import Rule, Schema, or_null

ABOVE_0 = schema.number(lambda value: 0 < value < 1e9, "above 0 and below 1e9")
BASE = schema.number(lambda value: 1 < value < 1e12, "above 1 and below 1e12")
POSITIONS = schema.whole(1, 10**9)


@dataclasses.dataclass(frozen=True)
class Rotary:
    """A pair of channels is rotated by position x frequency, in radians."""

    base: float
    """The frequency of pair i of n is base ** (-i / n)."""
    scaling: str = "default"
    """A key of SCALINGS."""
    factor: float = 1.0
    """How much longer than those of pretraining rows may be."""
    original_positions: int = 0
    """Of rows in pretraining."""
    low_freq_factor: float = 1.0
    """`llama3`: frequencies of fewer turns in an original row are divided by the factor."""
    high_freq_factor: float = 4.0
    """`llama3`: those of more turns stay."""
    beta_fast: float = 32.0
    """`yarn`: frequencies of more turns in an original row stay."""
    beta_slow: float = 1.0
    """`yarn`: those of fewer are divided by the factor."""
    truncate: bool = True
    """`yarn`: whether the two bounds are rounded to whole pairs of channels."""
    attention_factor: float = 1.0
    """`yarn`: what rotated queries and keys are multiplied by."""


SCALINGS: Mapping[str, Schema] = {
    "default": {},
    "linear": {"factor": ABOVE_0},
    "dynamic": {"factor": ABOVE_0},
    "llama3": {
        "factor": ABOVE_0,
        "low_freq_factor": ABOVE_0,
        "high_freq_factor": ABOVE_0,
        "original_max_position_embeddings": POSITIONS,
    },
    "yarn": {"factor": ABOVE_0},
}
"""The scalings that are computed, and the fields that each needs."""
OPTIONAL: Schema = {
    **dict.fromkeys(("attention_factor", "beta_fast", "beta_slow"), or_null(ABOVE_0)),
    **dict.fromkeys(("mscale", "mscale_all_dim"), or_null(ABOVE_0)),
    "original_max_position_embeddings": or_null(POSITIONS),
    "truncate": schema.SWITCH,
}
"""Fields of `yarn` beside these."""
OBJECT = or_null(Rule(lambda value: isinstance(value, Mapping), "an object"))


def apart(fields: Mapping[str, Any], base: str, share: str) -> dict[str, Any]:
    """config.json's fields as transformers 4 has them; 5 has those of rotary positions in one.

    Args:
        fields: of either; `rope_parameters` becomes `rope_scaling` and the two that follow.
        base: the family's name of the base in 4.
        share: the same of how much of a head is rotated.

    Raises:
        UserError: `rope_parameters` is no object that has a base.
    """
    fields = dict(fields)
    together = fields.pop("rope_parameters", None)
    if together is None:
        return fields
    if not isinstance(together, dict) or "rope_theta" not in together:
        raise UserError(
            f"config.json has rope_parameters={shown(together)}; only an object with rope_theta "
            "works"
        )
    scaling = dict(together)
    for name, older in (("rope_theta", base), ("partial_rotary_factor", share)):
        if name in scaling:
            fields[older] = scaling.pop(name)
    plain = scaling.get("rope_type", "default") == "default"
    return {**fields, "rope_scaling": None if plain else scaling}


def rotary_of(base: float, fields: Mapping[str, Any] | None, positions: int) -> Rotary:
    """What `rope_theta` and `rope_scaling` of config.json say.

    Args:
        base: `rope_theta`.
        fields: `rope_scaling`, where there is one.
        positions: `max_position_embeddings`.

    Raises:
        UserError: no code computes such a scaling, or one of its fields is missing or wrong.
    """
    fields = fields or {}
    kind = fields.get("rope_type", fields.get("type", "default"))
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise UserError(
            f"rope_scaling has rope_type={shown(kind)}; only {', '.join(SCALINGS)} work"
        )
    needed = dict.fromkeys(SCALINGS[kind]) | dict(fields)
    if wrong := schema.wrong_field(needed, {**OPTIONAL, **SCALINGS[kind]}):
        raise UserError(f"rope_scaling: {wrong}")
    original = fields.get("original_max_position_embeddings") or positions
    factor = float(fields.get("factor") or 1.0)
    if kind == "llama3":
        low, high = fields["low_freq_factor"], fields["high_freq_factor"]
        if not low < high:
            raise UserError(f"rope_scaling: high_freq_factor must be above {low}, not {high}")
        return Rotary(base, kind, factor, original, low, high)
    if kind == "yarn":
        return Rotary(
            base,
            kind,
            factor,
            original,
            beta_fast=fields.get("beta_fast") or 32.0,
            beta_slow=fields.get("beta_slow") or 1.0,
            truncate=fields.get("truncate", True),
            attention_factor=attention_factor(factor, fields),
        )
    return Rotary(base, kind, factor, original)


def attention_factor(factor: float, fields: Mapping[str, Any]) -> float:
    """What `yarn` multiplies queries and keys by (Peng et al. 2023, arxiv.org/abs/2309.00071)."""

    def mscale(weight: float = 1.0) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if (given := fields.get("attention_factor")) is not None:
        return float(given)
    over, under = fields.get("mscale"), fields.get("mscale_all_dim")
    return mscale(over) / mscale(under) if over and under else mscale()

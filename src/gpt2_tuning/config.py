"""Where low-rank updates go, and of what size."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gpt2_tuning.checks import is_number, is_whole
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family, FamilyConfig
from gpt2_tuning.families.known import ALL_LINEAR, LORA_TARGETS, family_of


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685) of chosen layers.

    An adapted layer computes x W + b + scaling * dropout(x) A B, where scaling is alpha / rank,
    or alpha / sqrt(rank) with `use_rslora` (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("attn.c_attn", "attn.c_proj")
    """Dense layers of a family by suffix; `all-linear` is all of them."""
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """A rank for single targets, by suffix, instead of `rank`."""
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """An alpha for single targets, by suffix, instead of `alpha`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.targets:
            raise UserError(f"LoRA needs a target: choose among {', '.join(LORA_TARGETS)}")
        for target in (*self.targets, *self.rank_pattern, *self.alpha_pattern):
            if target not in (*LORA_TARGETS, ALL_LINEAR):
                raise UserError(
                    f"unknown LoRA target {target!r}: choose among {', '.join(LORA_TARGETS)}"
                )
        for target in (*self.rank_pattern, *self.alpha_pattern):
            if target not in self.targets and ALL_LINEAR not in self.targets:
                raise UserError(f"a LoRA pattern names {target}, which is not among the targets")
        for rank in (self.rank, *self.rank_pattern.values()):
            if not is_whole(rank, least=1):
                raise UserError(f"LoRA rank must be a whole number of at least 1, not {rank!r}")
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            if not is_number(alpha) or not 0 < alpha < math.inf:
                raise UserError(f"LoRA alpha must be a number above 0, not {alpha!r}")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise UserError(f"LoRA dropout must be in [0, 1), not {self.dropout!r}")

    @classmethod
    def of(cls, lora: "LoRAConfig | Mapping[str, Any] | None") -> "LoRAConfig | None":
        """Accepts what users may pass as `lora`: a LoRAConfig, a plain dict of its fields, None.

        Raises:
            UserError: the dict has a field that LoRAConfig has not.
        """
        if lora is None or isinstance(lora, LoRAConfig):
            return lora
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(lora) - set(known))
        if unknown:
            raise UserError(f"unknown LoRA field {unknown[0]!r}: choose among {', '.join(known)}")
        return cls(**lora)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; `of` reads it back."""
        return {**dataclasses.asdict(self), "targets": list(self.targets)}

    def within(self, family: Family) -> "LoRAConfig":
        """The same with the family's own targets in place of `all-linear`.

        Raises:
            UserError: the family has no such target.
        """
        if ALL_LINEAR in self.targets:
            return dataclasses.replace(self, targets=tuple(family.lora_targets))
        for target in self.targets:
            family.place_of(target)
        return self

    def updates_in(self, config: FamilyConfig) -> "dict[str, LoRAUpdate]":
        """The updates of a block's dense layers, by their place in it.

        Raises:
            UserError: the config's family has no such target, or a rank is above a layer's size.
        """
        family, updates = family_of(config), {}
        lora = self.within(family)
        for target in lora.targets:
            place, update = family.place_of(target), lora.update_of(target)
            assert update is not None
            inputs, outputs = config.decoder.dense[place]
            if update.rank > min(inputs, outputs):
                raise UserError(
                    f"LoRA rank {update.rank} is above the size of {target}, {inputs} x {outputs}"
                )
            updates[place] = update
        return updates

    def update_of(self, target: str) -> "LoRAUpdate | None":
        """The update of one layer, by its suffix; None where the layer is not a target."""
        if target not in self.targets:
            return None
        rank = self.rank_pattern.get(target, self.rank)
        alpha = self.alpha_pattern.get(target, self.alpha)
        return LoRAUpdate(rank, alpha / (rank**0.5 if self.use_rslora else rank), self.dropout)


@dataclasses.dataclass(frozen=True)
class LoRAUpdate:
    """What LoRAConfig comes to for one layer."""

    rank: int
    scaling: float
    dropout: float

"""Where low-rank updates go, and of what size."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from gpt2_tuning import schema
from gpt2_tuning.checks import is_number, is_text, is_whole, shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family, FamilyConfig
from gpt2_tuning.families.known import ALL_LINEAR, LORA_TARGETS, USUAL, family_of
from gpt2_tuning.layer_names import Layer, layer_name, split
from gpt2_tuning.schema import Rule, Schema

LISTS = ("targets", "layers", "exclude", "modules_to_save")
"""The fields that are tuples."""
EXAMPLE = '{"rank": 8, "alpha": 16}'
BIASES = ("none", "all", "lora_only")
INITS = ("default", "pissa", "olora")
BY_FAMILY = (USUAL, ALL_LINEAR)
"""Targets that stand for those of a family."""


def several(holds: Callable[[Any], bool], what: str, kind: Any = Collection) -> Rule:
    """A list, or another kind, of what holds, which `what` says with an example."""
    return Rule(
        lambda value: isinstance(value, kind) and not is_text(value) and all(map(holds, value)),
        f"a {what}",
    )


KINDS: Schema = {
    "targets": several(is_text, 'list of names, such as ["attn.c_attn"]'),
    "layers": several(lambda value: True, "list of blocks, such as [0, 1]"),
    "exclude": several(is_text, 'list of layers, such as ["3.attn.c_attn"]'),
    "modules_to_save": several(is_text, 'list of names, such as ["wte"]'),
    "rank_pattern": several(is_text, 'dict, such as {"attn.c_proj": 4}', Mapping),
    "alpha_pattern": several(is_text, 'dict, such as {"attn.c_proj": 8}', Mapping),
    "use_rslora": schema.SWITCH,
    "use_dora": schema.SWITCH,
}
"""What the fields are, before their values are looked at."""


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685) of chosen layers.

    An adapted layer computes x W + b + scaling * dropout(x) A B, where scaling is alpha / rank,
    or alpha / sqrt(rank) with `use_rslora` (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = (USUAL,)
    """Dense layers of a family by suffix; `usual` is those that its adapters usually adapt, which
    are attn.c_attn and attn.c_proj of GPT-2, and `all-linear` is all of them."""
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """A rank for single targets, by suffix, instead of `rank`; or for the layer of one block, such
    as `3.attn.c_attn`, which comes before its target's."""
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """An alpha for single targets, or layers, as in `rank_pattern`."""
    layers: tuple[int, ...] = ()
    """The blocks that are adapted, by number from 0; none is all of them."""
    exclude: tuple[str, ...] = ()
    """Layers of them that are not, by block and target, such as `3.attn.c_attn`."""

    use_dora: bool = False
    """DoRA: what an update gives each output's weights is a direction, and their length is tuned by
    itself (Liu et al. 2024, https://arxiv.org/abs/2402.09353)."""
    init: Literal["default", "pissa", "olora"] = "default"
    """What the updates begin as: nothing, or a part of the kernel (see models/principal.py)."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases that are tuned with the updates: every one, or those of the adapted layers."""
    modules_to_save: tuple[str, ...] = ()
    """What is tuned whole with the updates, such as wte, ln_f or lm_head, by the family's names."""

    def __post_init__(self) -> None:
        if wrong := schema.wrong_field(vars(self), KINDS):
            raise UserError(f"LoRA {wrong}")
        for name in LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.targets:
            raise UserError(f"LoRA needs a target: choose among {', '.join(LORA_TARGETS)}")
        self._check_names()
        for block in self.layers:
            if not is_whole(block, least=0):
                raise UserError(f"LoRA layers are blocks by number from 0, not {block!r}")
        if len(set(self.layers)) < len(self.layers):
            raise UserError("LoRA layers name a block twice")
        for rank in (self.rank, *self.rank_pattern.values()):
            if not is_whole(rank, least=1):
                raise UserError(f"LoRA rank must be a whole number of at least 1, not {rank!r}")
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            if not is_number(alpha) or not 0 < alpha < math.inf:
                raise UserError(f"LoRA alpha must be a number above 0, not {alpha!r}")
            if not 1e-30 < alpha < 1e30:
                raise UserError(f"LoRA alpha must be from 1e-30 to 1e30, not {alpha!r}")
        if self.init not in INITS:
            raise UserError(f"LoRA init must be one of {', '.join(INITS)}, not {self.init!r}")
        if self.init != "default" and self.use_dora:
            raise UserError(f"LoRA init {self.init!r} does not go with use_dora")
        if self.bias not in BIASES:
            raise UserError(f"LoRA bias must be one of {', '.join(BIASES)}, not {self.bias!r}")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise UserError(f"LoRA dropout must be in [0, 1), not {self.dropout!r}")

    def _check_names(self) -> None:
        """Raises UserError where a target, or a target of a layer's name, is none."""
        patterns = (*self.rank_pattern, *self.alpha_pattern)
        for name in (*self.targets, *patterns, *self.exclude):
            target = name if name in self.targets else split(name)[1]
            if target not in (*LORA_TARGETS, *BY_FAMILY):
                raise UserError(
                    f"unknown LoRA target {target!r}: choose among {', '.join(LORA_TARGETS)}"
                )
        for name in (*patterns, *self.exclude):
            if split(name)[1] not in self.targets and not set(BY_FAMILY) & set(self.targets):
                raise UserError(f"LoRA: a field names {name}, which is not among the targets")
        for name in self.exclude:
            if split(name)[0] is None:
                raise UserError(
                    f"LoRA excludes single layers, such as 3.{name}, not {name!r}: leave it out of "
                    "the targets"
                )

    @classmethod
    def of(cls, lora: "LoRAConfig | Mapping[str, Any] | None") -> "LoRAConfig | None":
        """Accepts what users may pass as `lora`: a LoRAConfig, a plain dict of its fields, None.

        Raises:
            UserError: it is none of these, or the dict has a field that LoRAConfig has not.
        """
        if lora is None or isinstance(lora, LoRAConfig):
            return lora
        if not isinstance(lora, Mapping):
            raise UserError(
                f"lora must be a LoRAConfig, a dict of its fields such as {EXAMPLE}, or None, not "
                f"{shown(lora)}"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for name in lora:
            if name not in known:
                raise UserError(
                    f"unknown LoRA field {shown(name)}: choose among {', '.join(known)}"
                )
        return cls(**lora)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; `of` reads it back."""
        lists = {name: list(getattr(self, name)) for name in LISTS}
        return {**dataclasses.asdict(self), **lists}

    def within(self, family: Family) -> "LoRAConfig":
        """The same with the family's own targets in place of `usual` and `all-linear`.

        Raises:
            UserError: the family has no such target.
        """
        if ALL_LINEAR in self.targets:
            return dataclasses.replace(self, targets=tuple(family.lora_targets))
        if USUAL in self.targets:
            given = (target for target in self.targets if target != USUAL)
            targets = tuple(dict.fromkeys((*family.usual_targets, *given)))
            return dataclasses.replace(self, targets=targets).within(family)
        for target in self.targets:
            family.place_of(target)
        return self

    def updates_in(self, config: FamilyConfig) -> "list[dict[str, LoRAUpdate]]":
        """For each block the updates of its dense layers, by their place in it.

        Raises:
            UserError: the config's family has no such target, the config has no such block, or a
                layer has not so many directions that an update could begin as.
        """
        family, blocks = family_of(config), config.decoder.layers
        lora = self.within(family)
        named = [*lora.rank_pattern, *lora.alpha_pattern, *lora.exclude]
        numbers = [*lora.layers, *(number for number, _ in map(split, named) if number is not None)]
        if numbers and max(numbers) >= blocks:
            raise UserError(
                f"LoRA is to adapt block {max(numbers)}; the model has {blocks}, from 0 on"
            )
        found: list[dict[str, LoRAUpdate]] = []
        for block in range(blocks):
            updates = {target: lora.update_of(target, block) for target in lora.targets}
            for target, update in updates.items():
                inputs, outputs = config.decoder.dense[family.place_of(target)]
                if update and lora.init != "default" and update.rank > min(inputs, outputs):
                    raise UserError(
                        f"LoRA rank {update.rank} with init {lora.init!r} is above the size of "
                        f"{target}, {inputs} x {outputs}, which has not so many directions"
                    )
            found.append({family.place_of(at): one for at, one in updates.items() if one})
        if not any(found):
            raise UserError("LoRA is to adapt no layer: all that it names are excluded")
        return found

    def update_of(self, target: str, block: int) -> "LoRAUpdate | None":
        """The update of one layer, by its suffix and its block; None where it is not adapted."""
        name = layer_name(block, target)
        if target not in self.targets or name in self.exclude:
            return None
        if self.layers and block not in self.layers:
            return None
        rank = self.rank_pattern.get(name, self.rank_pattern.get(target, self.rank))
        alpha = self.alpha_pattern.get(name, self.alpha_pattern.get(target, self.alpha))
        scaling = alpha / (rank**0.5 if self.use_rslora else rank)
        return LoRAUpdate(rank, scaling, self.dropout, self.use_dora, self.init)

    @property
    def written(self) -> "LoRAConfig":
        """The same as its file has it: with an `init`, of twice the rank and the same scaling."""
        if self.init == "default":
            return self
        more = 2**0.5 if self.use_rslora else 2
        return dataclasses.replace(
            self,
            init="default",
            rank=2 * self.rank,
            alpha=more * self.alpha,
            rank_pattern={name: 2 * rank for name, rank in self.rank_pattern.items()},
            alpha_pattern={name: more * alpha for name, alpha in self.alpha_pattern.items()},
        )

    @property
    def tunes_base(self) -> bool:
        """Whether some of the base's own weights may be tuned with the updates; see `own_names`."""
        return self.bias != "none" or bool(self.modules_to_save)

    def own_names(self, config: FamilyConfig) -> list[str]:
        """The names in files of those of the base's weights, and of a language model's head.

        Raises:
            UserError: the family has no such module, or two fields name one weight.
        """
        family = family_of(config)
        modules = {**family.whole_modules, family.head_module: (family.head,)}
        for module in self.modules_to_save:
            if module not in modules:
                raise UserError(
                    f"LoRA modules_to_save: {family.name} has no {module!r}: choose among "
                    f"{', '.join(modules)}"
                )
        biases = self.biases_in(config)
        for module in self.modules_to_save:
            if both := [name for name in modules[module] if name in biases]:
                raise UserError(
                    f"LoRA bias 'all' and modules_to_save both tune {both[0]}: leave {module} out, "
                    "or take bias 'lora_only'"
                )
        return biases + [name for module in self.modules_to_save for name in modules[module]]

    def biases_in(self, config: FamilyConfig) -> list[str]:
        """The names in files of the biases that are tuned; a base may have none."""
        if self.bias == "none":
            return []
        names = (stored.name for stored in family_of(config).weights(config.decoder))
        biases = [name for name in names if name.endswith(".bias")]
        if self.bias == "all":
            return biases
        adapted = self.names_in(config)
        return [name for name in biases if name.removesuffix(".bias") in adapted]

    def names_in(self, config: FamilyConfig) -> set[str]:
        """The names of the adapted layers in files."""
        family = family_of(config)
        return {
            f"{family.block_prefix}{block}.{family.in_block(target)}"
            for block in range(config.decoder.layers)
            for target in self.within(family).targets
            if self.within(family).update_of(target, block)
        }

    def values(self, field: str, blocks: int) -> dict[Layer, Any]:
        """The `rank` or `alpha` of every layer that is adapted in a model of so many blocks."""
        pattern, usual = getattr(self, f"{field}_pattern"), getattr(self, field)
        return {
            (block, target): pattern.get(layer_name(block, target), pattern.get(target, usual))
            for target in self.targets
            for block in range(blocks)
            if self.update_of(target, block)
        }


@dataclasses.dataclass(frozen=True)
class LoRAUpdate:
    """What LoRAConfig comes to for one layer."""

    rank: int
    scaling: float
    dropout: float
    dora: bool = False
    init: str = "default"

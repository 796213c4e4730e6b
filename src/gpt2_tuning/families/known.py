"""The families there are, and what is looked up in all of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import gpt2, gpt_neo, gpt_neox, llama, mistral, qwen2, qwen3
from gpt2_tuning.families.family import Family, FamilyConfig

FAMILIES: Mapping[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (gpt2, gpt_neo, gpt_neox, llama, mistral, qwen2, qwen3)
}
DEFAULT = gpt2.NAME
"""The family of what does not say."""
MAX_SEQ_LEN = min(
    config.decoder.positions for family in FAMILIES.values() for config in family.sizes.values()
)
"""Tokens of the longest example of a data set: as many as every size has positions."""
ALL_LINEAR = "all-linear"
"""PEFT's word for every dense layer of the blocks."""
USUAL = "usual"
"""The dense layers that a family's adapters usually adapt."""
LORA_TARGETS = tuple(
    dict.fromkeys(target for family in FAMILIES.values() for target in family.lora_targets)
)
"""The dense layers that LoRA can adapt, by full suffix."""


def family_of(config: FamilyConfig) -> Family:
    """The family that a config is of."""
    return FAMILIES[config.decoder.family]


def family_named(name: str) -> Family:
    """A family by its name. Raises UserError where there is none."""
    if name not in FAMILIES:
        raise UserError(f"unknown family {name!r}: choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of_fields(fields: Mapping[str, Any]) -> Family:
    """The family that config.json, or a config's `to_dict`, is of; GPT-2 where it does not say.

    Raises:
        UserError: it is none of these.
    """
    if "model_type" not in fields and "hidden_size" in fields:
        raise UserError("config.json has no model_type, such as llama, and is no GPT-2's: add it")
    name = fields.get("model_type", DEFAULT)
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(
            f"config.json has model_type={shown(name)}; only {', '.join(FAMILIES)} work"
        )
    return FAMILIES[name]


def config_of(fields: Mapping[str, Any]) -> FamilyConfig:
    """The config that config.json, or a config's `to_dict`, describes.

    Raises:
        UserError: the family is not known, or no code computes what it describes.
    """
    return family_of_fields(fields).config_of(fields)


def with_vocabulary(config: FamilyConfig, size: int) -> FamilyConfig:
    """The config with rows for so many token ids."""
    return family_of(config).config_of({**config.to_dict(), "vocab_size": size})


def config_of_file(path: Path, fields: Mapping[str, Any]) -> FamilyConfig:
    """As `config_of`, of the fields of a file, which an error names."""
    try:
        return config_of(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def config_of_size(size: str, family: str = DEFAULT) -> FamilyConfig:
    """The config of a named size of a family. Raises UserError where there is no such size."""
    sizes = family_named(family).sizes
    config = sizes.get(FAMILIES[family].aliases.get(size, size))
    if config is None:
        raise UserError(f"unknown model size {size!r}: choose one of {', '.join(sizes)}")
    return config


def check_targets(family: Family, targets: Iterable[str]) -> None:
    """Raises UserError where a family has no such LoRA target."""
    for target in targets:
        if target != ALL_LINEAR:
            try:
                family.place_of(target)
            except UserError as error:
                raise UserError(f"--lora_targets: {error}") from error


def some_are_known(targets: Iterable[str]) -> bool:
    """Whether one of these LoRA targets is some family's, which the data may name."""
    return any(set(targets) & set(family.lora_targets) for family in FAMILIES.values())


def published(size: str, family: str = DEFAULT) -> str:
    """A size as `from_pretrained` takes it: by itself is only one of the default family."""
    return size if family == DEFAULT else hub_name(size, family) or size


def hub_name(size: str, family: str = DEFAULT) -> str | None:
    """Where a size is published; None where it is none, or is only ever trained from nothing."""
    names = family_named(family).hub_names
    return names.get(FAMILIES[family].aliases.get(size, size))

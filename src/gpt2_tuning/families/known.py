"""The families there are, and what is looked up in all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import gpt2
from gpt2_tuning.families.family import Family, FamilyConfig

FAMILIES: Mapping[str, Family] = {family.name: family for family in (gpt2.FAMILY,)}

SIZES = {size: config for family in FAMILIES.values() for size, config in family.sizes.items()}
ALIASES = {alias: size for family in FAMILIES.values() for alias, size in family.aliases.items()}
HUB_NAMES = {size: name for family in FAMILIES.values() for size, name in family.hub_names.items()}
"""Where each pretrained size is published; the others are only ever trained from nothing."""
MAX_SEQ_LEN = min(config.decoder.positions for config in SIZES.values())
"""Tokens of the longest example of a data set: as many as every size has positions."""
LORA_TARGETS = tuple(target for family in FAMILIES.values() for target in family.lora_targets)
"""The dense layers that LoRA can adapt, by full suffix."""


def family_of(config: FamilyConfig) -> Family:
    """The family that a config is of."""
    return FAMILIES[config.decoder.family]


def family_of_fields(fields: Mapping[str, Any]) -> Family:
    """The family that config.json, or a config's `to_dict`, is of; GPT-2 where it does not say.

    Raises:
        UserError: it is none of these.
    """
    name = fields.get("model_type", gpt2.NAME)
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(
            f"config.json has model_type={shown(name)}; only {', '.join(FAMILIES)} works"
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


def config_of_size(size: str) -> FamilyConfig:
    """The config of a named size. Raises UserError where there is no such size."""
    config = SIZES.get(ALIASES.get(size, size))
    if config is None:
        raise UserError(f"unknown model size {size!r}: choose one of {', '.join(SIZES)}")
    return config

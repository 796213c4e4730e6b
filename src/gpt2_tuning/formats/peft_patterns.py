"""Which layers PEFT's config means: lists, patterns and numbers of blocks, read and written."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gpt2_tuning.checks import shown
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.layer_names import pattern_of, split

MOST_CHARACTERS = 10_000
"""Of a regular expression."""


def targeted(fields: Mapping[str, Any], names: list[str]) -> list[bool]:
    """Which layers PEFT adapts: `target_modules` hits them and `exclude_modules` does not.

    `layers_to_transform` leaves those alone that are not in one of its blocks.
    """
    wanted, excluded = fields.get("target_modules") or [], fields.get("exclude_modules") or []
    hit = matching("target_modules", wanted, names)
    out = matching("exclude_modules", excluded, names)
    inside = in_blocks(fields, names)
    # A list may have a layer's whole name, which then counts in any block.
    whole = [not isinstance(wanted, str) and name in wanted for name in names]
    return [
        one and not other and (there or named)
        for one, other, there, named in zip(hit, out, inside, whole, strict=True)
    ]


def in_blocks(fields: Mapping[str, Any], names: list[str]) -> list[bool]:
    """Which layers are in a block of `layers_to_transform`; all, where that names none."""
    numbers, patterns = fields.get("layers_to_transform"), fields.get("layers_pattern")
    if numbers is None or numbers == []:
        return [True] * len(names)
    numbers = [numbers] if isinstance(numbers, int) else numbers
    if not patterns:
        # The first number that is a part of the name by itself, after two other parts.
        starts = [r"(?:.*?\.)[^.]*"]
    else:
        starts = [rf"(?:|.*?\.)(?:{one})" for one in texts(patterns)]
    found = [False] * len(names)
    for number in numbers:
        for start, written in zip(starts, texts(patterns) or [""], strict=True):
            hits = matches("layers_pattern", written, rf"{start}\.0*{number}\..*", names)
            found = [one or hit for one, hit in zip(found, hits, strict=True)]
    return found


def texts(value: str | Sequence[str] | None) -> list[str]:
    """One text or several as a list."""
    return [value] if isinstance(value, str) and value else list(value or [])


def matching(field: str, wanted: str | list[str], names: list[str]) -> list[bool]:
    """PEFT's rule for a list of names or name suffixes, or one regular expression."""
    if isinstance(wanted, str):
        return matches(field, wanted, wanted, names)
    suffixes = tuple(f".{item}" for item in wanted)
    return [f".{name}".endswith(suffixes) for name in names]


def values_of(fields: Mapping[str, Any], field: str, default: str, names: list[str]) -> list[Any]:
    """The value that a pattern field gives for each layer, or `default`'s where it says none."""
    values = [fields.get(default, 8)] * len(names)
    # The first pattern that hits counts.
    for pattern, value in reversed((fields.get(field) or {}).items()):
        hits = matches(field, pattern, rf"(.*\.)?({pattern})", names)
        values = [value if hit else before for hit, before in zip(hits, values, strict=True)]
    return values


def matches(field: str, written: str, pattern: str, names: list[str]) -> list[bool]:
    """Which names a regular expression of PEFT's, as it is written in a field, matches whole.

    It is Python's, whose own matching can take for ever. So it is matched by RE2, which takes a
    time that grows with the name's length, and has no lookaround and no references back.

    Raises:
        UserError: it is no regular expression, or one that RE2 has not.
    """
    what = f"{field}: {shown(written)}"
    if len(written) > MOST_CHARACTERS:
        raise UserError(f"{what} is longer than {MOST_CHARACTERS:,} characters")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"{what} is no regular expression: {error}") from error
    try:
        return pc.match_substring_regex(
            pa.array(names, pa.string()), rf"^(?:{pattern})$"
        ).to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(f"{what} is not read ({error}): list the layers by their names") from error


def layer_fields(lora: LoRAConfig, family: Family, blocks: int) -> dict[str, Any]:
    """What adapter_config.json says of the layers that are adapted, and of their sizes.

    Args:
        lora: of the adapter.
        family: of its base.
        blocks: of its base.
    """
    fields: dict[str, Any] = {
        "alpha_pattern": pattern_field(lora, "alpha", family, blocks),
        "lora_alpha": lora.alpha,
        "r": lora.rank,
        "rank_pattern": pattern_field(lora, "rank", family, blocks),
        "target_modules": list(lora.targets),
    }
    if lora.layers:
        # Without a pattern PEFT finds no blocks in a model without a head.
        pattern = family.block_prefix.removesuffix(".")
        fields |= {"layers_to_transform": sorted(lora.layers), "layers_pattern": pattern}
    if lora.exclude:
        fields["exclude_modules"] = [stored_name(family, name) for name in lora.exclude]
    return fields


def pattern_field(lora: LoRAConfig, field: str, family: Family, blocks: int) -> dict[str, Any]:
    """`rank_pattern` or `alpha_pattern`; of layers that differ in a target each has its own.

    PEFT takes the first pattern that hits, and a file may have them in any order; so none hits
    what another means.
    """
    pattern = getattr(lora, f"{field}_pattern")
    if all(split(name)[0] is None for name in pattern):
        return dict(pattern)
    pattern = pattern_of(lora.values(field, blocks), getattr(lora, field))
    return {stored_name(family, name): value for name, value in pattern.items()}


def stored_name(family: Family, name: str) -> str:
    """A layer's name by PEFT's suffix: `3.q_proj` is layers.3.self_attn.q_proj; targets stay."""
    block, target = split(name)
    return name if block is None else f"{family.block_prefix}{block}.{family.in_block(target)}"

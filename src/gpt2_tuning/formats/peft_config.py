"""LoRAConfig to and from the fields of PEFT's adapter_config.json.

PEFT names layers by patterns that may hit some layers only; here a target means that dense layer
of every block. What cannot be said that way is refused, never approximated.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gpt2_tuning import schema
from gpt2_tuning.checks import are_texts, is_text, shown
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats.holder import Adapted
from gpt2_tuning.schema import Rule, Schema, or_null

OFF_FIELDS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
"""Fields that make PEFT compute something else than LoRADense does, unless they are off."""

PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base as it was; others (PiSSA, ...) change it."""

READ_FIELDS = (
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
)
IDLE_FIELDS = (
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
)
"""Fields that change nothing once the weights are there and every field of OFF_FIELDS is off."""
HEADS = ("score", "classifier")
"""What `modules_to_save` may name: PEFT's words for a classifier's head, of which a GPT-2 has the
first."""
MOST_PATTERNS = 2000
"""Names or patterns of one field: a field may have one for each of a base's layers."""
MOST_CHARACTERS = 10_000
"""Of a regular expression."""


NAMES = or_null(
    Rule(
        lambda value: is_text(value) or (are_texts(value) and len(value) <= MOST_PATTERNS),
        "a list of names or a pattern",
    )
)
PATTERNS = or_null(
    Rule(
        lambda value: isinstance(value, dict) and len(value) <= MOST_PATTERNS,
        f"an object of at most {MOST_PATTERNS} patterns",
    )
)
FLAG = or_null(schema.SWITCH)
FIELDS: Schema = {
    "peft_type": or_null(schema.TEXT),
    "task_type": or_null(schema.TEXT),
    "base_model_name_or_path": or_null(schema.TEXT),
    "bias": schema.TEXT,
    "init_lora_weights": Rule(
        lambda value: isinstance(value, (bool, str)), "true, false or a text"
    ),
    "use_rslora": FLAG,
    "modules_to_save": or_null(Rule(are_texts, "a list of names")),
    "r": schema.whole(1, 2**31),
    "lora_alpha": schema.number(lambda value: 0 < value < math.inf, "above 0"),
    "lora_dropout": schema.number(lambda value: 0 <= value < 1, "in [0, 1)"),
    "target_modules": NAMES,
    "exclude_modules": NAMES,
    "rank_pattern": PATTERNS,
    "alpha_pattern": PATTERNS,
}
"""What the fields may hold that are read; those of OFF_FIELDS are off, or refused."""


def to_fields(model: Adapted) -> dict[str, Any]:
    """What adapter_config.json says of a model's adapter, in fields that old PEFTs know too."""
    lora = model.lora
    assert lora is not None
    heads = sorted(name.removesuffix(".weight") for name in model.head_weights())
    return {
        **model.kept_adapter_fields,
        "alpha_pattern": dict(lora.alpha_pattern),
        "base_model_name_or_path": model.pretrained_name,
        "bias": "none",
        "fan_in_fan_out": model.family.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": heads or None,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": dict(lora.rank_pattern),
        "target_modules": list(lora.targets),
        "task_type": model.task_type,
        "use_rslora": lora.use_rslora,
    }


def from_fields(
    fields: Mapping[str, Any], ranks: Mapping[str, int], prefix: str, family: Family
) -> LoRAConfig:
    """The LoRAConfig that a model needs for an adapter.

    Args:
        fields: of adapter_config.json.
        ranks: the rank of every layer in the weights' file, such as {"h.0.attn.c_attn": 8}.
        prefix: what stands before those names in PEFT's model: "transformer." or nothing.
        family: that the names are of.

    Raises:
        UserError: it does not agree with the weights, or says what LoRADense does not compute.
    """
    numbers = (name.removeprefix(family.block_prefix).partition(".")[0] for name in ranks)
    blocks = 1 + max(map(int, numbers), default=-1)
    targets, target_ranks, alphas = [], {}, {}
    for target in family.lora_targets:
        part = family.in_block(target)
        names = [f"{family.block_prefix}{block}.{part}" for block in range(blocks)]
        wanted = targeted(fields, [prefix + name for name in names])
        for name, hit in zip(names, wanted, strict=True):
            if hit != (name in ranks):
                raise UserError(f"target_modules and the weights disagree about {name}")
        if not any(wanted):
            continue
        if not all(wanted):
            raise UserError(f"{target} is adapted in some blocks only; here it must be in all")
        targets.append(target)
        target_ranks[target] = one_value(fields, "rank_pattern", "r", prefix, names)
        alphas[target] = one_value(fields, "alpha_pattern", "lora_alpha", prefix, names)
        for name in names:
            if ranks[name] != target_ranks[target]:
                raise UserError(
                    f"{name} has rank {ranks[name]} in the weights, "
                    f"{shown(target_ranks[target])} by adapter_config.json"
                )
    rank, alpha = fields.get("r", 8), fields.get("lora_alpha", 8)
    return LoRAConfig(
        rank=rank,
        alpha=alpha,
        dropout=fields.get("lora_dropout", 0.0),
        targets=tuple(targets),
        use_rslora=bool(fields.get("use_rslora")),
        rank_pattern={key: value for key, value in target_ranks.items() if value != rank},
        alpha_pattern={key: value for key, value in alphas.items() if value != alpha},
    )


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises UserError for anything but plain LoRA, by its name; no weight is asked for that."""
    for name in OFF_FIELDS:
        if fields.get(name):
            raise UserError(f"{name}={shown(fields[name])} is not supported")
    if wrong := schema.wrong_field(fields, FIELDS):
        raise UserError(wrong)
    if fields.get("peft_type") != "LORA":
        raise UserError(f"peft_type is {shown(fields.get('peft_type'))}; only 'LORA' works")
    if fields.get("bias", "none") != "none":
        raise UserError(f"bias={shown(fields['bias'])} is not supported; only 'none' is")
    if fields.get("init_lora_weights", True) not in PLAIN_STARTS:
        raise UserError(
            f"init_lora_weights={shown(fields['init_lora_weights'])} changes the base, "
            "which is not supported: convert the adapter to plain LoRA with PEFT"
        )
    for name in fields.get("modules_to_save") or []:
        if name not in HEADS:
            raise UserError(
                f"modules_to_save names {shown(name)}: of whole layers that were tuned beside the "
                "updates only a classifier's score is read; merge the adapter into its base with "
                "PEFT (merge_and_unload) and give that with --pretrained"
            )


def targeted(fields: Mapping[str, Any], names: list[str]) -> list[bool]:
    """PEFT's rule for each layer: `target_modules` hits it and `exclude_modules` does not."""
    hit, excluded = (
        matching(field, fields.get(field) or [], names)
        for field in ("target_modules", "exclude_modules")
    )
    return [one and not other for one, other in zip(hit, excluded, strict=True)]


def matching(field: str, wanted: str | list[str], names: list[str]) -> list[bool]:
    """PEFT's rule for a list of names or name suffixes, or one regular expression."""
    if isinstance(wanted, str):
        return matches(field, wanted, wanted, names)
    suffixes = tuple(f".{item}" for item in wanted)
    return [f".{name}".endswith(suffixes) for name in names]


def one_value(
    fields: Mapping[str, Any], field: str, default: str, prefix: str, names: Iterable[str]
) -> Any:
    """The value that a pattern field gives for layers, which must be the same for all of them.

    Raises:
        UserError: it is not the same.
    """
    stored = [prefix + name for name in names]
    values = [fields.get(default, 8)] * len(stored)
    # The first pattern that hits counts.
    for pattern, value in reversed((fields.get(field) or {}).items()):
        hits = matches(field, pattern, rf"(.*\.)?({pattern})", stored)
        values = [value if hit else before for hit, before in zip(hits, values, strict=True)]
    if any(value != values[0] for value in values):
        raise UserError(f"{field} differs between blocks; here it must be the same for all")
    return values[0]


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


def unknown_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that neither this library nor the PEFT it was written for knows."""
    known = {*OFF_FIELDS, *READ_FIELDS, *IDLE_FIELDS}
    return {name: value for name, value in fields.items() if name not in known}

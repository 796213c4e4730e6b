"""LoRAConfig to and from the fields of PEFT's adapter_config.json.

PEFT names layers by patterns that may hit some layers only; here a target means that dense layer
of every block. What cannot be said that way is refused, never approximated.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats.holder import Holder

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


def to_fields(model: Holder) -> dict[str, Any]:
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
        UserError: it is no LoRA adapter, is one of a kind that LoRADense does not compute, or
            does not agree with the weights.
    """
    refuse_other_kinds(fields)
    numbers = (name.removeprefix(family.block_prefix).partition(".")[0] for name in ranks)
    blocks = 1 + max(map(int, numbers), default=-1)
    targets, target_ranks, alphas = [], {}, {}
    for target in family.lora_targets:
        names = [f"{family.block_prefix}{block}.{target}" for block in range(blocks)]
        for name in names:
            if is_target(fields, prefix + name) != (name in ranks):
                raise UserError(f"target_modules and the weights disagree about {name}")
        hit = [name for name in names if name in ranks]
        if not hit:
            continue
        if len(hit) < len(names):
            raise UserError(f"{target} is adapted in some blocks only; here it must be in all")
        targets.append(target)
        target_ranks[target] = one_value(fields, "rank_pattern", "r", prefix, names)
        alphas[target] = one_value(fields, "alpha_pattern", "lora_alpha", prefix, names)
        for name in names:
            if ranks[name] != target_ranks[target]:
                raise UserError(
                    f"{name} has rank {ranks[name]} in the weights, "
                    f"{target_ranks[target]!r} by adapter_config.json"
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


def refuse_other_kinds(fields: Mapping[str, Any]) -> None:
    """Raises UserError for anything but plain LoRA."""
    if fields.get("peft_type") != "LORA":
        raise UserError(f"peft_type is {fields.get('peft_type')!r}; only 'LORA' works")
    for name in OFF_FIELDS:
        if fields.get(name):
            raise UserError(f"{name}={fields[name]!r} is not supported")
    if fields.get("bias", "none") != "none":
        raise UserError(f"bias={fields['bias']!r} is not supported; only 'none' is")
    if fields.get("init_lora_weights", True) not in PLAIN_STARTS:
        raise UserError(
            f"init_lora_weights={fields['init_lora_weights']!r} changes the base, "
            "which is not supported: convert the adapter to plain LoRA with PEFT"
        )


def is_target(fields: Mapping[str, Any], name: str) -> bool:
    """PEFT's rule: `target_modules` hits the layer and `exclude_modules` does not."""
    return matches(fields, "target_modules", name) and not matches(fields, "exclude_modules", name)


def matches(fields: Mapping[str, Any], field: str, name: str) -> bool:
    """PEFT's rule for a list of names or name suffixes, or one regular expression."""
    wanted = fields.get(field) or []
    if isinstance(wanted, str):
        return compiled(field, wanted).fullmatch(name) is not None
    if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
        raise UserError(f"{field}={wanted!r} is neither a list of names nor a pattern")
    return any(f".{name}".endswith(f".{item}") for item in wanted)


def one_value(
    fields: Mapping[str, Any], field: str, default: str, prefix: str, names: Iterable[str]
) -> Any:
    """The value that a pattern field gives for layers, which must be the same for all of them.

    Raises:
        UserError: it is not the same, or the field is no dict.
    """
    patterns = fields.get(field) or {}
    if not isinstance(patterns, dict):
        raise UserError(f"{field}={patterns!r} is not a dict")
    values = []
    for name in names:
        hits = (key for key in patterns if compiled(field, key).match(prefix + name))
        key = next(hits, None)
        values.append(fields.get(default, 8) if key is None else patterns[key])
    if any(value != values[0] for value in values):
        raise UserError(f"{field} differs between blocks; here it must be the same for all")
    return values[0]


def compiled(field: str, pattern: str) -> re.Pattern[str]:
    """A pattern as PEFT reads it: `target_modules` match whole names, pattern fields suffixes."""
    try:
        return re.compile(rf"(.*\.)?({pattern})$" if field.endswith("_pattern") else pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"{field}: {pattern!r} is no regular expression: {error}") from error


def unknown_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that neither this library nor the PEFT it was written for knows."""
    known = {*OFF_FIELDS, *READ_FIELDS, *IDLE_FIELDS}
    return {name: value for name, value in fields.items() if name not in known}

"""LoRAConfig to and from the fields of PEFT's adapter_config.json.

PEFT names layers by patterns, of which a LoRAConfig has what they come to: targets, and what is
otherwise in single blocks. What is not computed here is refused, never approximated.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from gpt2_tuning import schema
from gpt2_tuning.checks import are_texts, is_text, is_whole, shown
from gpt2_tuning.config import BIASES, INITS, LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats import peft_patterns
from gpt2_tuning.formats.holder import Adapted
from gpt2_tuning.formats.peft_modules import check_saved, saved_modules, saved_name
from gpt2_tuning.layer_names import Layer, pattern_of, places_of
from gpt2_tuning.schema import Rule, Schema, or_null

OFF_FIELDS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Fields that make PEFT compute something else than LoRADense does, unless they are off."""

PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base as it was; others change it, of which INITS
are made again from the base alone."""

READ_FIELDS = (
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
)
IDLE_FIELDS = (
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
)
"""Fields that change nothing once the weights are there and every field of OFF_FIELDS is off."""
MOST_PATTERNS = 2000
"""Names or patterns of one field: a field may have one for each of a base's layers."""


def is_block(value: Any) -> bool:
    """Whether it may be a block's number."""
    return is_whole(value, 0, 9999)


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
BLOCKS = or_null(
    Rule(
        lambda value: (
            all(map(is_block, value)) and len(value) <= MOST_PATTERNS
            if isinstance(value, list)
            else is_block(value)
        ),
        "a block's number or a list of them",
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
    "use_dora": FLAG,
    "use_rslora": FLAG,
    "modules_to_save": or_null(Rule(are_texts, "a list of names")),
    "r": schema.whole(1, 2**31),
    "lora_alpha": schema.number(lambda value: 0 < value < math.inf, "above 0"),
    "lora_dropout": schema.number(lambda value: 0 <= value < 1, "in [0, 1)"),
    "target_modules": NAMES,
    "layers_to_transform": BLOCKS,
    "layers_pattern": NAMES,
    "exclude_modules": NAMES,
    "rank_pattern": PATTERNS,
    "alpha_pattern": PATTERNS,
}
"""What the fields may hold that are read; those of OFF_FIELDS are off, or refused."""


def to_fields(model: Adapted) -> dict[str, Any]:
    """What adapter_config.json says of a model's adapter, in fields that old PEFTs know too."""
    assert model.lora is not None
    lora = model.lora.written
    heads = {name.removesuffix(".weight") for name in model.head_weights()}
    inner = model.family.base_prefix if model.used_heads() else ""
    saved = sorted(heads | {saved_name(name, inner, model.family) for name in lora.modules_to_save})
    return {
        **model.kept_adapter_fields,
        "base_model_name_or_path": model.pretrained_name,
        "bias": lora.bias,
        "fan_in_fan_out": model.family.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_dropout": lora.dropout,
        "modules_to_save": saved or None,
        "peft_type": "LORA",
        "task_type": model.task_type,
        "use_rslora": lora.use_rslora,
        **({"use_dora": True} if lora.use_dora else {}),
        **peft_patterns.layer_fields(lora, model.family, model.config.decoder.layers),
    }


def begins_as(fields: Mapping[str, Any]) -> Literal["default", "pissa", "olora"]:
    """What `init_lora_weights` says, as a LoRAConfig has it."""
    init = fields.get("init_lora_weights", True)
    return init if init in ("pissa", "olora") else "default"


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
    init = begins_as(fields)
    if init == "olora" and family.fan_in_fan_out:
        # PEFT decomposes what lies (in, out) as if it lay (out, in), and so computes another thing.
        raise UserError(
            "init_lora_weights='olora' of a base whose kernels lie (in, out) is not supported: "
            "convert the adapter to plain LoRA with PEFT (path_initial_model_for_weight_conversion)"
        )
    layers, blocks = adapted_layers(fields, ranks, prefix, family)
    stored = [prefix + name for name in layers.values()]
    values = peft_patterns.values_of(fields, "rank_pattern", "r", stored)
    for name, value in zip(layers.values(), values, strict=True):
        if ranks[name] != value:
            raise UserError(
                f"{name} has rank {ranks[name]} in the weights, {shown(value)} by "
                "adapter_config.json"
            )
    alphas = peft_patterns.values_of(fields, "alpha_pattern", "lora_alpha", stored)
    rank, alpha = fields.get("r", 8), fields.get("lora_alpha", 8)
    return LoRAConfig(
        rank=rank,
        alpha=alpha,
        dropout=fields.get("lora_dropout", 0.0),
        use_rslora=bool(fields.get("use_rslora")),
        use_dora=bool(fields.get("use_dora")),
        init=init,
        bias=fields.get("bias", "none"),
        modules_to_save=tuple(saved_modules(fields, prefix, family)),
        rank_pattern=pattern_of(dict(zip(layers, values, strict=True)), rank),
        alpha_pattern=pattern_of(dict(zip(layers, alphas, strict=True)), alpha),
        **places_of(layers, blocks),
    )


def adapted_layers(
    fields: Mapping[str, Any], there: Collection[str], prefix: str, family: Family
) -> tuple[dict[Layer, str], int | None]:
    """The layers that PEFT means, with their names, which must be those in the weights' file.

    Returns:
        The layers, and how many blocks there are where all are adapted that are not excluded; None
        where single ones are named, of a base that may have more.

    Raises:
        UserError: the weights have others.
    """
    numbers = (name.removeprefix(family.block_prefix).partition(".")[0] for name in there)
    blocks = 1 + max(map(int, numbers), default=-1)
    layers: dict[Layer, str] = {}
    is_open = False
    for target in family.lora_targets:
        part = family.in_block(target)
        # One block more than there is: where PEFT would adapt that too, no block is left out.
        names = [f"{family.block_prefix}{block}.{part}" for block in range(blocks + 1)]
        *wanted, further = peft_patterns.targeted(fields, [prefix + name for name in names])
        is_open |= further
        for block, (name, hit) in enumerate(zip(names, wanted, strict=False)):
            if hit != (name in there):
                only = "target_modules" if hit else "the weights' file"
                raise UserError(
                    f"target_modules and the weights disagree about {name}: only {only} has it"
                )
            if hit:
                layers[block, target] = name
    return layers, blocks if is_open else None


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises UserError for anything but plain LoRA, by its name; no weight is asked for that."""
    for name in OFF_FIELDS:
        if fields.get(name):
            raise UserError(f"{name}={shown(fields[name])} is not supported")
    if wrong := schema.wrong_field(fields, FIELDS):
        raise UserError(wrong)
    if isinstance(fields.get("target_modules"), str) and fields.get("layers_to_transform"):
        raise UserError("layers_to_transform does not go with a pattern as target_modules")
    if fields.get("peft_type") != "LORA":
        raise UserError(f"peft_type is {shown(fields.get('peft_type'))}; only 'LORA' works")
    if fields.get("bias", "none") not in BIASES:
        raise UserError(f"bias={shown(fields['bias'])} is not supported; {', '.join(BIASES)} are")
    if fields.get("init_lora_weights", True) not in (*PLAIN_STARTS, *INITS[1:]):
        raise UserError(
            f"init_lora_weights={shown(fields['init_lora_weights'])} changes the base, "
            "which is not supported: convert the adapter to plain LoRA with PEFT "
            "(path_initial_model_for_weight_conversion)"
        )
    check_saved(fields)


def unknown_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that neither this library nor the PEFT it was written for knows."""
    known = {*OFF_FIELDS, *READ_FIELDS, *IDLE_FIELDS}
    return {name: value for name, value in fields.items() if name not in known}

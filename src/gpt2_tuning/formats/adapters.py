"""Adapters to and from directories in PEFT's format, so that they travel between libraries.

`adapter_config.json` holds PEFT's own fields. What PEFT has no field for (the base's fingerprint,
the classes' names) is in the metadata of `adapter_model.safetensors`, which PEFT does not read.
"""

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.checks import shown
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, files_named
from gpt2_tuning.formats import peft_config, peft_modules, peft_patterns
from gpt2_tuning.formats.adapter_files import (
    BASE_LAYER,
    CONFIG_FILE,
    METADATA_KEY,
    PEFT_PREFIX,
    WEIGHTS_FILE,
    as_stored,
    base_named_in,
    read_header,
    read_weights,
)
from gpt2_tuning.formats.classifier_head import HEAD, agreed_labels
from gpt2_tuning.formats.directory import are_names
from gpt2_tuning.formats.holder import Adapted
from gpt2_tuning.formats.huggingface import (
    as_float32,
    base_arrays,
    sha256_of_weights,
)
from gpt2_tuning.layer_names import layer_name
from gpt2_tuning.small_files import read_json

MAKE_ANEW = "make the model with the lora that read_adapter_config gives"


class AdapterExtra(NamedTuple):
    """What an adapter says beyond its LoRAConfig; None where it does not say."""

    num_classes: int | None
    label_names: list[str] | None
    base_name: str | None
    """The base's name on the Hub, or a directory, as whoever wrote the adapter had it."""
    base_sha256: str | None
    """See `base_fingerprint`; adapters written by PEFT have none."""
    unknown_fields: Mapping[str, Any]
    """Fields of adapter_config.json that mean nothing here; they are kept."""


# --- writing ---------------------------------------------------------------------------------


def save_adapter(model: Adapted, directory: Path) -> None:
    """Writes a model's LoRA weights, and its head, whole or not at all.

    Raises:
        UserError: the directory holds other files.
    """
    inner = model.family.base_prefix if model.used_heads() else ""
    weights = {}
    for name, array in written_arrays(model).items():
        stored = PEFT_PREFIX + (name if name in (HEAD, model.family.head) else inner + name)
        weights[stored] = np.ascontiguousarray(array)
    recorded: dict[str, Any] = {"base_sha256": base_fingerprint(model)}
    if HEAD in model.head_weights():
        recorded["label_names"] = list(model.label_names)
    fields = json.dumps(peft_config.to_fields(model), indent=2, sort_keys=True)
    with atomic_directory(directory, files_named(CONFIG_FILE, WEIGHTS_FILE)) as partial:
        (partial / CONFIG_FILE).write_text(fields + "\n", encoding="utf-8", newline="\n")
        metadata = {METADATA_KEY: json.dumps(recorded)}
        arrays.save_arrays(partial / WEIGHTS_FILE, weights, metadata)


def written_arrays(model: Adapted) -> dict[str, np.ndarray]:
    """The weights of an adapter as the file has them.

    Factors that began as a part of the base's kernel are written with what they began as, as PEFT
    converts them: side by side their products are the difference, on the base as it is.
    """
    arrays = {
        name: as_stored(name, as_float32(variable))
        for name, variable in adapter_variables(model).items()
    }
    for name, variable in model.start_weights().items():
        layer, _, factor = name.rpartition(".lora_start_")
        axis, sign = (0, 1) if factor == "A" else (1, -1)
        own = f"{layer}.lora_{factor}.weight"
        before = np.float32(sign) * as_float32(variable).T
        arrays[own] = np.concatenate([arrays[own], before], axis=axis)
    return arrays


def adapter_variables(model: Adapted) -> dict[str, keras.Variable]:
    """The variables of an adapter by their names in the file."""
    own: dict[str, keras.Variable] = {}
    if weights := model.own_weights():
        assert model.lora is not None
        adapted = model.lora.names_in(model.config)
        for name, variable in weights.items():
            layer, _, kind = name.rpartition(".")
            own[f"{layer}{BASE_LAYER}.{kind}" if layer in adapted else name] = variable
    return {**model.lora_weights(), **model.head_weights(), **own}


def base_fingerprint(model: Adapted) -> str:
    """sha256 of the base's weights: which model an adapter belongs to.

    It is that of `huggingface.sha256_of_weights` over the base's weights, in the order of its
    family's table. LoRA weights and heads are not part of it, nor are updates that are merged into
    the kernels; of a base that is held rounded, it is that of the weights as they were read.
    """
    if model.exact_base_sha256 is not None:
        return model.exact_base_sha256
    head = model.family.head
    return sha256_of_weights(array for name, array in base_arrays(model) if name != head)


# --- reading ---------------------------------------------------------------------------------


def read_adapter_config(directory: str | Path) -> tuple[LoRAConfig, AdapterExtra]:
    """What a model must be made with to take an adapter; its weights are not read.

    Raises:
        UserError: there is no adapter, it is damaged, or it is of a kind not supported.
    """
    directory = Path(directory)
    fields = read_json(directory / CONFIG_FILE, "an adapter")
    try:
        peft_config.check_fields(fields)
    except UserError as error:
        raise UserError(f"{directory / CONFIG_FILE}: {error}") from error
    family, stored_prefix = base_named_in(directory)
    prefix = stored_prefix.removeprefix(PEFT_PREFIX)
    try:
        # Of modules that are not read the weights' names would be refused, which says less.
        peft_modules.saved_modules(fields, prefix, family)
    except UserError as error:
        raise UserError(f"{directory / CONFIG_FILE}: {error}") from error
    header = read_header(directory)
    ranks = {
        name.removesuffix(".lora_A.weight"): shape[0]
        for name, shape in header.shapes.items()
        if name.endswith(".lora_A.weight")
    }
    try:
        lora = peft_config.from_fields(fields, ranks, prefix, family)
    except UserError as error:
        raise UserError(f"{directory / CONFIG_FILE}: {error}") from error
    num_classes = header.shapes[HEAD][0] if HEAD in header.shapes else None
    label_names = header.recorded.get("label_names")
    if label_names is not None and not are_names(label_names, num_classes):
        raise UserError(f"{header.path}: {shown(label_names)} are not the names of its classes")
    return lora, AdapterExtra(
        num_classes,
        label_names,
        fields.get("base_model_name_or_path"),
        header.recorded.get("base_sha256"),
        MappingProxyType(peft_config.unknown_fields(fields)),
    )


# --- loading ---------------------------------------------------------------------------------


def load_adapter(model: Adapted, directory: Path) -> None:
    """Takes the weights of an adapter, float32, all or none of them.

    A classifier whose classes have no names of their own takes the adapter's. Fields of
    adapter_config.json that mean nothing here are kept for the next `save_adapter`.

    Raises:
        UserError: naming what differs between the adapter and the model.
    """
    lora, extra = read_adapter_config(directory)
    header = read_header(directory)
    variables = adapter_variables(model)
    try:
        check_lora(model, lora)
        check_shapes(model, header.shapes, variables)
        label_names = agreed_labels(model.label_names, extra.label_names)
        if extra.base_sha256 is not None and extra.base_sha256 != base_fingerprint(model):
            base = f", {extra.base_name}," if extra.base_name else ""
            raise UserError(f"the adapter's base{base} has other weights than the model's base")
    except UserError as error:
        raise UserError(f"{directory}: {error}") from error
    weights = read_weights(header)
    for name, variable in variables.items():
        variable.assign(as_stored(name, weights[name]))
    if label_names:
        model.label_names = label_names
    model.pretrained_name = model.pretrained_name or extra.base_name
    model.kept_adapter_fields = extra.unknown_fields
    if extra.unknown_fields:
        names = ", ".join(sorted(extra.unknown_fields))
        warnings.warn(f"{directory / CONFIG_FILE}: unknown fields kept: {names}", stacklevel=3)


def check_lora(model: Adapted, lora: LoRAConfig) -> None:
    """Raises UserError where the adapter's targets, ranks or scalings are not the model's."""
    mine = model.lora
    assert mine is not None
    for name in ("init", "bias", "use_dora", "modules_to_save"):
        theirs, ours = getattr(lora, name), getattr(mine, name)
        if set(theirs) != set(ours) if name == "modules_to_save" else theirs != ours:
            raise UserError(
                f"the adapter's {name} is {shown(theirs)}, the model's {shown(ours)}: {MAKE_ANEW}"
            )
    if set(lora.targets) != set(mine.targets):
        raise UserError(
            f"the adapter's targets are {', '.join(sorted(lora.targets))}; "
            f"the model's are {', '.join(sorted(mine.targets))}: {MAKE_ANEW}"
        )
    lora.updates_in(model.config)  # says where it names blocks that the model has not
    for block in range(model.config.decoder.layers):
        for target in lora.targets:
            name = peft_patterns.stored_name(model.family, layer_name(block, target))
            theirs, ours = lora.update_of(target, block), mine.update_of(target, block)
            if theirs is None or ours is None:
                if theirs is not ours:
                    has = "the model" if theirs is None else "the adapter"
                    raise UserError(f"{name}: only {has} has an update of it")
            elif theirs.rank != ours.rank:
                raise UserError(
                    f"{name}: the adapter's rank is {theirs.rank}, the model's {ours.rank}"
                )
            elif not math.isclose(theirs.scaling, ours.scaling, rel_tol=1e-6):
                raise UserError(
                    f"{name}: the adapter scales its update by {theirs.scaling:g}, the model by "
                    f"{ours.scaling:g}: alpha or use_rslora differs"
                )


def check_shapes(
    model: Adapted,
    shapes: Mapping[str, tuple[int, ...]],
    variables: Mapping[str, keras.Variable],
) -> None:
    """Raises UserError for a base of another size, and for any weight missing or unexpected."""
    lora, mine = model.lora, model.config.decoder.layers
    matches = map(model.family.lora_name, shapes)
    blocks = 1 + max((int(match["block"]) for match in matches if match), default=-1)
    if lora is not None and not lora.layers and blocks != mine:
        raise UserError(f"the adapter is for a base of {blocks} blocks; the model has {mine}")
    for name, variable in variables.items():
        if name not in shapes:
            raise UserError(f"{name} is missing")
        expected = as_stored(name, np.empty(variable.shape, np.bool_)).shape
        if shapes[name] != expected:
            size = "number of classes" if name == HEAD else "base size"
            raise UserError(f"{name} has shape {shapes[name]}, not {expected}: another {size}")
    for name in shapes:
        if name not in variables:
            raise UserError(f"{name} is unexpected: the model has no such weight")

"""Adapters to and from directories in PEFT's format, so that they travel between libraries.

`adapter_config.json` holds PEFT's own fields. What PEFT has no field for (the base's fingerprint,
the classes' names) is in the metadata of `adapter_model.safetensors`, which PEFT does not read.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.checks import shown
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.families.known import FAMILIES
from gpt2_tuning.files import atomic_directory, files_named
from gpt2_tuning.formats import peft_config
from gpt2_tuning.formats.classifier_head import HEAD, agreed_labels
from gpt2_tuning.formats.directory import are_names, how_to_convert, refuse_wrapped
from gpt2_tuning.formats.holder import Adapted
from gpt2_tuning.formats.huggingface import (
    LM_HEAD,
    as_float32,
    base_arrays,
    sha256_of_weights,
)
from gpt2_tuning.layer_names import layer_name
from gpt2_tuning.small_files import parse_json, read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

METADATA_KEY = "gpt2_tuning"
"""The only key of the metadata, since safetensors writes several in random order: a JSON object
with `base_sha256` and, for a classifier, `label_names`."""

BASE_LAYER = ".base_layer"
"""In the name of an adapted layer's bias, which PEFT wraps."""
HEADS = (HEAD, LM_HEAD)
"""What stands beside the base, not in it."""
FLOATS = ("F32", "F16", "BF16")


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


class Header(NamedTuple):
    """What the weights' file holds, before any weight is read."""

    path: Path
    family: Family
    prefix: str  # before every name: PEFT_PREFIX, and the family's where the base has a head
    shapes: dict[str, tuple[int, ...]]  # by name without prefix; as in the file, (out, in)
    recorded: dict[str, Any]  # the metadata under METADATA_KEY


# --- writing ---------------------------------------------------------------------------------


def save_adapter(model: Adapted, directory: Path) -> None:
    """Writes a model's LoRA weights, and its head, whole or not at all.

    Raises:
        UserError: the directory holds other files.
    """
    inner = model.family.base_prefix if model.used_heads() else ""
    weights = {}
    for name, variable in adapter_variables(model).items():
        stored = PEFT_PREFIX + (name if name in HEADS else inner + name)
        weights[stored] = np.ascontiguousarray(as_stored(name, as_float32(variable)))
    recorded: dict[str, Any] = {"base_sha256": base_fingerprint(model)}
    if HEAD in model.head_weights():
        recorded["label_names"] = list(model.label_names)
    fields = json.dumps(peft_config.to_fields(model), indent=2, sort_keys=True)
    with atomic_directory(directory, files_named(CONFIG_FILE, WEIGHTS_FILE)) as partial:
        (partial / CONFIG_FILE).write_text(fields + "\n", encoding="utf-8", newline="\n")
        metadata = {METADATA_KEY: json.dumps(recorded)}
        arrays.save_arrays(partial / WEIGHTS_FILE, weights, metadata)


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


def as_stored(name: str, array: np.ndarray) -> np.ndarray:
    """A weight as the file has it, or as it lies here: factors and the score are transposed."""
    return array.T if ".lora_" in name or name == HEAD else array


def base_fingerprint(model: Adapted) -> str:
    """sha256 of the base's weights: which model an adapter belongs to.

    It is that of `huggingface.sha256_of_weights` over the base's weights, in the order of its
    family's table. LoRA weights and heads are not part of it, nor are updates that are merged into
    the kernels; of a base that is held rounded, it is that of the weights as they were read.
    """
    if model.exact_base_sha256 is not None:
        return model.exact_base_sha256
    return sha256_of_weights(array for _, array in base_arrays(model))


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
    header = read_header(directory)
    ranks = {
        name.removesuffix(".lora_A.weight"): shape[0]
        for name, shape in header.shapes.items()
        if name.endswith(".lora_A.weight")
    }
    prefix = header.prefix.removeprefix(PEFT_PREFIX)
    try:
        lora = peft_config.from_fields(fields, ranks, prefix, header.family)
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


def read_header(directory: Path) -> Header:
    """The names, types and shapes in an adapter's weights.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.
    """
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"no {WEIGHTS_FILE} in {directory} (only safetensors are read, no pickles)"
            f"{how_to_convert(directory, 'AutoPeftModelForCausalLM')}"
        )
    with arrays.opened(path) as file:
        metadata = file.metadata() or {}
        slices = {stored: file.get_slice(stored) for stored in file.keys()}  # noqa: SIM118
        stored_shapes = {stored: tuple(part.get_shape()) for stored, part in slices.items()}
        dtypes = {stored: part.get_dtype() for stored, part in slices.items()}
    try:
        recorded = parse_json(metadata.get(METADATA_KEY, "{}"))
    except ValueError as error:
        raise UserError(f"{path}: its metadata {METADATA_KEY} is not JSON") from error
    family, prefix = family_of_names(stored_shapes)
    shapes: dict[str, tuple[int, ...]] = {}
    for stored, shape in stored_shapes.items():
        outside = stored.removeprefix(PEFT_PREFIX)
        name = outside if outside in HEADS else stored.removeprefix(prefix)
        refuse_wrapped(outside, path)
        if name == stored or not (name in HEADS or family.adapter_name(name)):
            raise UserError(f"{path}: {stored!r} is unexpected in an adapter of {family.name}")
        if dtypes[stored] not in FLOATS:
            raise UserError(f"{path}: {name} is of type {dtypes[stored]}, not {', '.join(FLOATS)}")
        matrix = name == HEAD or ".lora_" in name
        if 0 in shape or (len(shape) != 2 if matrix else len(shape) not in (1, 2)):
            raise UserError(f"{path}: {name} has shape {shape}, which is no matrix")
        shapes[name] = shape
    if not isinstance(recorded, dict):
        raise UserError(f"{path}: its metadata {METADATA_KEY} is no JSON object")
    return Header(path, family, prefix, shapes, recorded)


def family_of_names(stored: Iterable[str]) -> tuple[Family, str]:
    """The family whose names most of these are, and what stands before them."""
    best: tuple[int, Family, str] | None = None
    for family in FAMILIES.values():
        inner = PEFT_PREFIX + family.base_prefix
        prefix = inner if any(name.startswith(inner) for name in stored) else PEFT_PREFIX
        known = sum(bool(family.lora_name(name.removeprefix(prefix))) for name in stored)
        if best is None or known > best[0]:
            best = known, family, prefix
    assert best is not None
    return best[1:]


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
    for name in ("bias", "modules_to_save"):
        theirs, ours = getattr(lora, name), getattr(mine, name)
        if theirs != ours and set(theirs) != set(ours):
            raise UserError(f"the adapter's {name} is {shown(theirs)}, the model's {shown(ours)}")
    if set(lora.targets) != set(mine.targets):
        raise UserError(
            f"the adapter's targets are {', '.join(sorted(lora.targets))}; "
            f"the model's are {', '.join(sorted(mine.targets))}"
        )
    lora.updates_in(model.config)  # says where it names blocks that the model has not
    for block in range(model.config.decoder.layers):
        for target in lora.targets:
            name = peft_config.stored_name(model.family, layer_name(block, target))
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


def read_weights(header: Header) -> dict[str, np.ndarray]:
    """Every weight as float32, by its name without prefix.

    Raises:
        UserError: one is not finite.
    """
    weights = {}
    for name in header.shapes:
        prefix = PEFT_PREFIX if name in HEADS else header.prefix
        weights[name] = arrays.read_array(header.path, prefix + name).astype(np.float32)
        arrays.check_finite(weights[name], f"{header.path}: {name}")
    return weights

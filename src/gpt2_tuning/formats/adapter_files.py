"""The weights' file of an adapter: its names, types and shapes, and what they are of."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.families.known import FAMILIES
from gpt2_tuning.formats.classifier_head import HEAD
from gpt2_tuning.formats.directory import how_to_convert, refuse_wrapped
from gpt2_tuning.small_files import parse_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

METADATA_KEY = "gpt2_tuning"
"""The only key of the metadata, since safetensors writes several in random order: a JSON object
with `base_sha256` and, for a classifier, `label_names`."""

BASE_LAYER = ".base_layer"
"""In the name of an adapted layer's bias, which PEFT wraps."""
FLOATS = ("F32", "F16", "BF16")


class Header(NamedTuple):
    """What the weights' file holds, before any weight is read."""

    path: Path
    family: Family
    prefix: str  # before every name: PEFT_PREFIX, and the family's where the base has a head
    shapes: dict[str, tuple[int, ...]]  # by name without prefix; as in the file, (out, in)
    recorded: dict[str, Any]  # the metadata under METADATA_KEY


def as_stored(name: str, array: np.ndarray) -> np.ndarray:
    """A weight as the file has it, or as it lies here: factors and the score are transposed."""
    return array.T if ".lora_" in name or name == HEAD else array


def read_header(directory: Path) -> Header:
    """The names, types and shapes in an adapter's weights.

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.
    """
    path = weights_in(directory)
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
    heads = (HEAD, family.head)  # which stand beside the base, not in it
    for stored, shape in stored_shapes.items():
        outside = stored.removeprefix(PEFT_PREFIX)
        name = outside if outside in heads else stored.removeprefix(prefix)
        refuse_wrapped(outside, path)
        if name == stored or not (name in heads or family.adapter_name(name)):
            raise UserError(f"{path}: {stored!r} is unexpected in an adapter of {family.name}")
        if dtypes[stored] not in FLOATS:
            raise UserError(f"{path}: {name} is of type {dtypes[stored]}, not {', '.join(FLOATS)}")
        matrix = name == HEAD or name.endswith((".lora_A.weight", ".lora_B.weight"))
        if 0 in shape or (len(shape) != 2 if matrix else len(shape) not in (1, 2)):
            raise UserError(f"{path}: {name} has shape {shape}, which is no matrix")
        shapes[name] = shape
    if not isinstance(recorded, dict):
        raise UserError(f"{path}: its metadata {METADATA_KEY} is no JSON object")
    return Header(path, family, prefix, shapes, recorded)


def weights_in(directory: Path) -> Path:
    """The weights' file. Raises UserError where there is none."""
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(
            f"no {WEIGHTS_FILE} in {directory} (only safetensors are read, no pickles)"
            f"{how_to_convert(directory, 'AutoPeftModelForCausalLM')}"
        )
    return path


def base_named_in(directory: Path) -> tuple[Family, str]:
    """The family that an adapter's weights are named after, and what stands before the names.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    with arrays.opened(weights_in(directory)) as file:
        return family_of_names(list(file.keys()))


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


def read_weights(header: Header) -> dict[str, np.ndarray]:
    """Every weight as float32, by its name without prefix.

    Raises:
        UserError: one is not finite.
    """
    weights = {}
    for name in header.shapes:
        prefix = PEFT_PREFIX if name in (HEAD, header.family.head) else header.prefix
        weights[name] = arrays.read_array(header.path, prefix + name).astype(np.float32)
        arrays.check_finite(weights[name], f"{header.path}: {name}")
    return weights

"""A Hugging Face directory as it is read: config.json, and weights that stay in their files.

What no model could take is refused here; what fits a given model, `huggingface` decides.
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.checks import is_file_name
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.decoder_config import DecoderConfig
from gpt2_tuning.families.family import Family, FamilyConfig
from gpt2_tuning.schema import Rule, Schema, wrong_field
from gpt2_tuning.small_files import read_json

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"

FLOATS = ("F64", "F32", "F16", "BF16")
WRAPPERS = {
    "module.": "torch.nn.DataParallel or DistributedDataParallel: save `model.module`",
    "_orig_mod.": "torch.compile: save the model that was compiled (`model._orig_mod`)",
}
"""What PyTorch puts before every name of a model that it wraps, and how to save without it."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
INDEX_FIELDS: Schema = {
    "weight_map": Rule(
        lambda value: isinstance(value, dict) and all(map(is_file_name, value.values())),
        "an object that names, for each weight, a file beside it",
    )
}


BLOCK = 2**24
"""Numbers of an array that are looked at together: beside a model so much is in memory."""


class Stored(NamedTuple):
    """An array that is read when it is needed."""

    where: str  # its file and its name, for messages
    shape: tuple[int, ...]
    read: Callable[..., np.ndarray]  # all of it, or the rows of a slice

    @classmethod
    def of(cls, array: np.ndarray, where: str) -> Self:
        """One that is in memory."""
        return cls(where, array.shape, lambda part=slice(None): array[part])

    def with_rows(self, rows: list[int]) -> Self:
        """Some of its rows, in this order."""
        return self.of(self.read()[rows], self.where)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Stretches of its rows, in order, with what is in them."""
        if len(self.shape) < 2:
            yield slice(None), self.read()
            return
        rows, width = self.shape[0], math.prod(self.shape[1:])
        height = max(1, BLOCK // max(1, width))
        for start in range(0, rows, height):
            part = slice(start, min(rows, start + height))
            yield part, self.read(part)


class Checkpoint(NamedTuple):
    """What a directory holds."""

    directory: Path
    fields: dict[str, Any]
    """Of config.json."""
    config: FamilyConfig
    """What they say."""
    weights: dict[str, Stored]
    """By name, without the prefix of models with heads."""


def read_checkpoint(directory: Path) -> Checkpoint:
    """The config and the weights' names, types and shapes; no weight is read yet.

    Raises:
        UserError: a file is missing or damaged, a weight is not of a floating-point type, two have
            one name, or the base's are not those that config.json describes.
    """
    fields = read_json(directory / CONFIG_FILE)
    config = known.config_of_file(directory / CONFIG_FILE, fields)
    family = known.family_of(config)
    weights: dict[str, Stored] = {}
    for path in weight_files(directory, fields):
        with arrays.opened(path) as file:
            for stored in file.keys():  # noqa: SIM118 - the file is not a mapping
                refuse_wrapped(stored, path)
                name = stored.removeprefix(family.base_prefix)
                if name.endswith(family.constants):
                    continue
                part = file.get_slice(stored)
                if part.get_dtype() not in FLOATS:
                    raise UserError(
                        f"{path}: {name} is of type {part.get_dtype()}, not {', '.join(FLOATS)}: "
                        "use weights that are not quantized"
                    )
                if name in weights:
                    raise UserError(
                        f"{path}: {stored} is another weight of the name {name}, which "
                        f"{weights[name].where} has as well"
                    )
                read = functools.partial(arrays.read_array, path, stored)
                weights[name] = Stored(f"{path}: {name}", tuple(part.get_shape()), read)
    check_base(family, config.decoder, weights, directory)
    return Checkpoint(directory, fields, config, weights)


def refuse_wrapped(stored: str, path: Path) -> None:
    """Raises UserError for a name as PyTorch writes it for a model in a wrapper."""
    for prefix, what in WRAPPERS.items():
        if stored.startswith(prefix):
            raise UserError(f"{path}: {stored} begins with {prefix}, which is left by {what}")


def check_base(
    family: Family, config: DecoderConfig, weights: dict[str, Stored], directory: Path
) -> None:
    """Compares the base's names and shapes with a config, before a model of its size is made.

    Raises:
        UserError: naming the first weight that is missing or of another shape.
    """
    for name, path, transposed in family.weights(config):
        if name not in weights:
            raise UserError(f"{directory}: {name} is missing")
        found, expected = weights[name].shape, config.shape_of(path)
        expected = expected[::-1] if transposed else expected
        if found != expected:
            raise UserError(f"{directory}: {name} has shape {found}, not {expected}")


def weight_files(directory: Path, fields: dict[str, Any]) -> list[Path]:
    """The files that hold the weights: one, or those of an index.

    `fields` are config.json's.

    Raises:
        UserError: there are none, or the index is damaged.
    """
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    if (directory / INDEX_FILE).is_file():
        index = {"weight_map": None, **read_json(directory / INDEX_FILE)}
        if wrong := wrong_field(index, INDEX_FIELDS):
            raise UserError(f"{directory / INDEX_FILE}: {wrong}")
        names = sorted(set(index["weight_map"].values()))
        missing = [name for name in names if not (directory / name).exists()]
        if missing:
            raise UserError(
                f"{directory / INDEX_FILE} names {len(names)} files, of which {missing[0]} is not "
                "there: download it again, or copy all of them"
            )
        return [directory / name for name in names]
    classifies = "ForSequenceClassification" in str(fields.get("architectures"))
    loader = "AutoModelForSequenceClassification" if classifies else "AutoModelForCausalLM"
    raise UserError(
        f"no {WEIGHTS_FILE} in {directory} (only safetensors are read, never pickles)"
        f"{how_to_convert(directory, loader)}"
    )


def how_to_convert(directory: Path, loader: str) -> str:
    """What makes safetensors of the pickle in a directory; empty where there is none.

    `loader` is the class of transformers or PEFT that loads it.
    """
    if not any(path.suffix in PICKLES for path in directory.iterdir()):
        return ""
    library = "peft" if loader.startswith("AutoPeft") else "transformers"
    place = str(directory)
    return (
        f': where you trust the pickle, `python -c "from {library} import {loader} as M; '
        f'M.from_pretrained({place!r}).save_pretrained({place!r})"` converts it'
    )


def are_names(value: Any, number: int | None) -> bool:
    """Whether a value from a file is a list of `number` strings."""
    return (
        isinstance(value, list)
        and len(value) == number
        and all(isinstance(name, str) for name in value)
    )

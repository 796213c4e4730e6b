"""A Hugging Face directory as it is read: config.json, and weights that stay in their files.

What no model could take is refused here; what fits a given model, `huggingface` decides.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"

FLOATS = ("F64", "F32", "F16", "BF16")
MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Constants that old checkpoints carry; the causal mask is computed here."""


class Stored(NamedTuple):
    """An array that is read when it is needed."""

    where: str  # its file and its name, for messages
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    def with_rows(self, rows: list[int]) -> Self:
        """Some of its rows, in this order."""
        shape = (len(rows), *self.shape[1:])
        return self._replace(shape=shape, read=lambda: self.read()[rows])


class Checkpoint(NamedTuple):
    """What a directory holds."""

    directory: Path
    fields: dict[str, Any]
    """Of config.json."""
    weights: dict[str, Stored]
    """By name, without the prefix of models with heads."""


def read_checkpoint(directory: Path) -> Checkpoint:
    """The config and the weights' names, types and shapes; no weight is read yet.

    Raises:
        UserError: a file is missing or damaged, a weight is not of a floating-point type, or two
            have one name.
    """
    fields = read_json(directory / CONFIG_FILE)
    prefix = known.family_of_fields(fields).base_prefix
    weights: dict[str, Stored] = {}
    for path in weight_files(directory):
        with arrays.opened(path) as file:
            for stored in file.keys():  # noqa: SIM118 - the file is not a mapping
                name = stored.removeprefix(prefix)
                if name.endswith(MASK_BUFFERS):
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
    return Checkpoint(directory, fields, weights)


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights: one, or those of an index.

    Raises:
        UserError: there are none, or the index is damaged.
    """
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    if (directory / INDEX_FILE).is_file():
        weight_map = read_json(directory / INDEX_FILE).get("weight_map")
        if not isinstance(weight_map, dict) or not all(map(is_text, weight_map.values())):
            raise UserError(f"{directory / INDEX_FILE}: weight_map does not name a file a weight")
        return [directory / name for name in sorted({Path(n).name for n in weight_map.values()})]
    raise UserError(f"no {WEIGHTS_FILE} in {directory} (only safetensors are read, never pickles)")


def is_text(value: Any) -> bool:
    """Whether a value from a file is a string."""
    return isinstance(value, str)


def are_names(value: Any, number: int | None) -> bool:
    """Whether a value from a file is a list of `number` strings."""
    return (
        isinstance(value, list)
        and len(value) == number
        and all(isinstance(name, str) for name in value)
    )


def read_json(path: Path, kind: str = "a Hugging Face model") -> dict[str, Any]:
    """A JSON object. Raises UserError when the file is missing or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise UserError(f"{path} may not be read: permission denied (see ls -l)") from error
    except OSError as error:
        raise UserError(f"no {path.name} in {path.parent}: not {kind}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content

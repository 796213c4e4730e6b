"""Several adapters on disk made into one on disk."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2_tuning import arrays
from gpt2_tuning.arrays import check_finite
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.files import atomic_directory, check_kept, files_named
from gpt2_tuning.formats import adapter_files, adapters, peft_patterns
from gpt2_tuning.formats.adapter_files import (
    CONFIG_FILE,
    METADATA_KEY,
    PEFT_PREFIX,
    WEIGHTS_FILE,
    Header,
)
from gpt2_tuning.formats.adapters import AdapterExtra
from gpt2_tuning.formats.classifier_head import HEAD, listed
from gpt2_tuning.formats.mixing import Method, check_asked, mixed
from gpt2_tuning.small_files import read_json


def mix(
    directories: Sequence[str | Path],
    shares: Sequence[float],
    output_dir: str | Path,
    method: Method,
    density: float = 0.5,
    seed: int = 0,
    base_name: str | None = None,
) -> None:
    """Writes one adapter, whole or not at all; what its config says beside is the first one's.

    Args:
        directories: two or more, in PEFT's format.
        shares: how much each counts; heads of the same classes are averaged by them.
        output_dir: new, or one that an earlier call wrote.
        method, density, seed: see `mixing.mixed`.
        base_name: where their base is, for the mixture to name where none of them does.

    Raises:
        UserError: they are not of one base, of the same layers, classes or ranks, the mixture's
            numbers are not finite, or the directory holds other files or one of them.
    """
    check_asked(len(directories), shares, method, density)
    places = list(map(Path, directories))
    check_kept(Path(output_dir), places)
    read = [adapters.read_adapter_config(place) for place in places]
    headers = [adapter_files.read_header(place) for place in places]
    for place, header, (lora, extra) in zip(places, headers, read, strict=True):
        check_start(lora, place)
        check_same(str(places[0]), headers[0], read[0][1], str(place), header, extra)
    weights = [adapter_files.read_weights(header) for header in headers]
    for place, found in zip(places, weights, strict=True):
        check_factors(found, place)
    heads = [found.pop(HEAD) for found in weights if HEAD in found]
    for place, found in zip(places, weights, strict=True):
        check_shapes(weights[0], found, place)
    pairs = [(lora, found) for (lora, _), found in zip(read, weights, strict=True)]
    with np.errstate(over="ignore"):  # what is too large is refused by its name
        lora, mixture = mixed(pairs, shares, method, density, seed)
    stored = {headers[0].prefix + name: array for name, array in mixture.items()}
    if heads:
        stored[PEFT_PREFIX + HEAD] = mean_of(heads, shares)
    fields = beside_layers(places[0]) | fields_of(lora, headers[0].family, mixture)
    fields["base_model_name_or_path"] = first_known([*(e.base_name for _, e in read), base_name])
    recorded: dict[str, Any] = {"base_sha256": first_known(extra.base_sha256 for _, extra in read)}
    if heads:
        recorded["label_names"] = read[0][1].label_names
    known = {name: value for name, value in recorded.items() if value is not None}
    write(Path(output_dir), fields, stored, known)


def beside_layers(directory: Path) -> dict[str, Any]:
    """What an adapter's config says of other things than its layers."""
    fields = read_json(directory / CONFIG_FILE, "an adapter")
    return {name: value for name, value in fields.items() if name not in OF_LAYERS}


def write(
    directory: Path,
    fields: dict[str, Any],
    weights: dict[str, np.ndarray],
    recorded: dict[str, Any],
) -> None:
    """Writes an adapter of these fields and weights. Raises UserError where one is not finite."""
    every = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
    for name, array in every.items():
        check_finite(array, f"the mixture's {name}")
    with atomic_directory(directory, files_named(CONFIG_FILE, WEIGHTS_FILE)) as partial:
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        (partial / CONFIG_FILE).write_text(text, encoding="utf-8", newline="\n")
        arrays.save_arrays(partial / WEIGHTS_FILE, every, {METADATA_KEY: json.dumps(recorded)})


def check_same(
    first: str,
    header: Header,
    extra: AdapterExtra,
    other: str,
    other_header: Header,
    other_extra: AdapterExtra,
) -> None:
    """Raises UserError where two adapters are of other bases, or their heads of other classes."""
    if header.family is not other_header.family or header.prefix != other_header.prefix:
        raise UserError(f"{first} and {other} are for other kinds of models")
    sums = {extra.base_sha256, other_extra.base_sha256} - {None}
    if len(sums) > 1:
        raise UserError(f"{first} and {other} were tuned on bases of other weights")
    if (extra.num_classes, extra.label_names) != (other_extra.num_classes, other_extra.label_names):
        raise UserError(
            f"{first} has {classes_of(extra)}, {other} has {classes_of(other_extra)}: only "
            "adapters of the same classes are mixed"
        )


def classes_of(extra: AdapterExtra) -> str:
    """The classes of an adapter in words."""
    if extra.num_classes is None:
        return "no classes"
    if extra.label_names is None:
        return f"{extra.num_classes} classes without names"
    return f"the classes {listed(extra.label_names)}"


def check_factors(weights: Iterable[str], where: Path) -> None:
    """Raises UserError for an adapter of more than factors and a head, by what it has."""
    for name in weights:
        if name != HEAD and not name.endswith((".lora_A.weight", ".lora_B.weight")):
            raise UserError(
                f"{where} has {name}: only adapters of low-rank updates alone can be mixed, none "
                "with DoRA, tuned biases or modules_to_save"
            )


OF_LAYERS = ("layers_pattern", "layers_to_transform")
"""Fields that a mixture says anew, if at all."""


def check_start(lora: LoRAConfig, where: Path) -> None:
    """Raises UserError for factors from which what they began as is yet to be taken off."""
    if lora.init != "default":
        raise UserError(
            f"{where} holds what its training began as too ({lora.init}): convert it by PEFT's "
            "path_initial_model_for_weight_conversion, then mix it"
        )


def check_shapes(first: dict[str, np.ndarray], other: dict[str, np.ndarray], where: Path) -> None:
    """Raises UserError where a layer is of another size than the first adapter's."""
    for name, array in first.items():
        side = 1 if ".lora_A." in name else 0
        if name in other and other[name].shape[side] != array.shape[side]:
            raise UserError(f"{where}: {name} is for a base of another size")


def mean_of(heads: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    """The mean of heads by their shares. Raises UserError where these add up to nothing."""
    if sum(shares) <= 0:
        raise UserError(
            "the shares (--weights) of classifiers must add up to more than 0, as their heads are "
            "averaged by them"
        )
    parts = [np.float32(s / sum(shares)) * head for s, head in zip(shares, heads, strict=True)]
    return np.sum(parts, axis=0)


def first_known(values: Iterable[str | None]) -> str | None:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def fields_of(lora: LoRAConfig, family: Family, names: Iterable[str]) -> dict[str, Any]:
    """What adapter_config.json says of a mixture, whose factors have these names."""
    blocks = 1 + max(int(match["block"]) for match in map(family.lora_name, names) if match)
    of_layers = peft_patterns.layer_fields(lora, family, blocks)
    return {"exclude_modules": None, **of_layers, "use_rslora": False}

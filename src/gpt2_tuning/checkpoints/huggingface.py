"""GPT-2 weights to and from Hugging Face, through one table of names read both ways.

Kernels are (in, out) on both sides, so nothing is transposed but a classifier's `score.weight`.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt2_tuning.config import ALIASES, END_OF_TEXT, FIXED_FIELDS, HUB_NAMES, SIZES, GPT2Config
from gpt2_tuning.data.tokenizer import TOKENIZER_FILES, GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, files_named

if TYPE_CHECKING:
    from gpt2_tuning.models.tunable import TunableModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
CLASSIFIER = "GPT2ForSequenceClassification"

EMBEDDING_NAMES = (("wte.weight", "wte.embeddings"), ("wpe.weight", "wpe.embeddings"))
BLOCK_NAMES = (
    ("ln_1.weight", "ln_1.gamma"),
    ("ln_1.bias", "ln_1.beta"),
    ("attn.c_attn.weight", "attn.c_attn.kernel"),
    ("attn.c_attn.bias", "attn.c_attn.bias"),
    ("attn.c_proj.weight", "attn.c_proj.kernel"),
    ("attn.c_proj.bias", "attn.c_proj.bias"),
    ("ln_2.weight", "ln_2.gamma"),
    ("ln_2.bias", "ln_2.beta"),
    ("mlp.c_fc.weight", "mlp.c_fc.kernel"),
    ("mlp.c_fc.bias", "mlp.c_fc.bias"),
    ("mlp.c_proj.weight", "mlp.c_proj.kernel"),
    ("mlp.c_proj.bias", "mlp.c_proj.bias"),
)
FINAL_NAMES = (("ln_f.weight", "ln_f.gamma"), ("ln_f.bias", "ln_f.beta"))

HEADS = ("score.weight", "lm_head.weight")
MASK_BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Constants that old checkpoints carry; the causal mask is computed here."""


def name_table(n_layer: int) -> Iterator[tuple[str, str]]:
    """Pairs of a weight's name in files and its attribute path in GPT2Model."""
    yield from EMBEDDING_NAMES
    for layer in range(n_layer):
        for name, path in BLOCK_NAMES:
            yield f"h.{layer}.{name}", f"h.{layer}.{path}"
    yield from FINAL_NAMES


def follow(root: Any, path: str) -> Any:
    """The object at an attribute path such as "h.0.attn.c_attn.kernel"."""
    return functools.reduce(
        lambda at, part: at[int(part)] if part.isdigit() else getattr(at, part),
        path.split("."),
        root,
    )


def base_weights(model: "TunableModel") -> dict[str, keras.Variable]:
    """The base's variables by their names in files, without prefix."""
    return {name: follow(model.base, path) for name, path in name_table(model.config.n_layer)}


def base_arrays(model: "TunableModel") -> Iterator[tuple[str, np.ndarray]]:
    """The base's weights in the table's order, float32, without updates that are merged in."""
    kept = model.kept_kernels
    for name, variable in base_weights(model).items():
        yield name, as_float32(kept.get(name, variable))


def holds_rounded(model: "TunableModel") -> bool:
    """Whether the model's base is held in a type that rounds float32 weights."""
    return model.base.variable_dtype not in ("float32", "float64")


def sha256_of_weights(arrays: Iterable[np.ndarray]) -> str:
    """sha256 over the bytes of arrays as little-endian float32, row by row, one after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()


# --- finding ---------------------------------------------------------------------------------


def find_checkpoint(pretrained: str) -> Path:
    """The directory of a checkpoint: a local one as it is, a size or Hub name through the cache.

    Raises:
        UserError: neither is there; the message names the file, the cache and what else works.
    """
    if Path(pretrained).is_dir():
        return Path(pretrained)
    size = ALIASES.get(pretrained, pretrained)
    if size in SIZES and size not in HUB_NAMES:
        raise UserError(
            f"there are no published weights of size {size}: "
            f"use --pretrained none (random weights) or --pretrained DIR"
        )
    return download(public_name(pretrained))


def public_name(pretrained: str) -> str:
    """The Hub's name of a size or of an old name such as "gpt2"; a directory is its own name."""
    if Path(pretrained).is_dir():
        return pretrained
    old_names = {name.rpartition("/")[2]: name for name in HUB_NAMES.values()}
    size = ALIASES.get(pretrained, pretrained)
    return HUB_NAMES.get(size) or old_names.get(pretrained, pretrained)


def download(hub_name: str) -> Path:
    """The Hub's copy of a checkpoint, from the local cache where it is already there."""
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_name,
                allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, "model-*.safetensors"],
            )
        )
    except Exception as error:  # the Hub's client raises errors of several libraries
        raise UserError(
            f"cannot get {WEIGHTS_FILE} of {hub_name!r} ({type(error).__name__}): it is not a "
            f"directory here, not in the cache {constants.HF_HUB_CACHE}, and could not be "
            f"downloaded; use --pretrained DIR (config.json and {WEIGHTS_FILE}) or "
            "--pretrained none (random weights)"
        ) from error


def read_json(path: Path, kind: str = "a Hugging Face model") -> dict[str, Any]:
    """A JSON object. Raises UserError when the file is missing or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"no {path.name} in {path.parent}: not {kind}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content


# --- reading ---------------------------------------------------------------------------------


def load_directory(model: "TunableModel", directory: Path) -> None:
    """Takes a directory's weights, memory-mapped and one at a time, all or none of them.

    A head is taken where the model has it; a checkpoint without one (a plain GPT-2) leaves the
    model's head as it is, unless its config.json promises one.

    Raises:
        UserError: a weight is missing, unexpected or of another shape, or a file is damaged.
    """
    files = [directory / name for name in weight_files(directory)]
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as file:
                for stored in file.keys():  # noqa: SIM118 - the file is not a mapping
                    name = stored.removeprefix("transformer.")
                    if not name.endswith(MASK_BUFFERS):
                        shapes[name] = tuple(file.get_slice(stored).get_shape())
                        readers[name] = functools.partial(read_tensor, path, stored)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    config = read_json(directory / CONFIG_FILE)
    check_computation(model, config, str(directory))
    promised = config.get("architectures") or []
    optional = set() if CLASSIFIER in promised else set(model.head_weights())
    assign_weights(model, shapes, lambda name: readers[name](), str(directory), optional)


def weight_files(directory: Path) -> list[str]:
    """Names of the files that hold the weights: one, or those of an index."""
    if (directory / WEIGHTS_FILE).is_file():
        return [WEIGHTS_FILE]
    if (directory / INDEX_FILE).is_file():
        weight_map = read_json(directory / INDEX_FILE).get("weight_map", {})
        return sorted({Path(name).name for name in weight_map.values()})
    raise UserError(f"no {WEIGHTS_FILE} in {directory} (only safetensors are read, never pickles)")


def read_tensor(path: Path, name: str) -> np.ndarray:
    """One array of a safetensors file."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)


def load_tf_gpt2(model: "TunableModel", tf_model: Any) -> None:
    """Takes the base's weights from a live TFGPT2Model, TFGPT2LMHeadModel or the like.

    Raises:
        UserError: it is no such model, or a weight is missing or of another shape.
    """
    where = f"the {type(tf_model).__name__} given"
    try:
        source = tf_model.transformer
        # transformers' Conv1D calls its kernel `weight`; the other attributes have Keras's names.
        variables = {
            name: follow(source, path.replace(".kernel", ".weight"))
            for name, path in name_table(len(source.h))
        }
        check_computation(model, tf_model.config.to_dict(), where)
    except AttributeError as error:
        raise UserError(
            f"{where} is not a TF GPT-2 with weights (is it built?): {error}"
        ) from error
    # Conv1D's biases have shape (1, n).
    arrays = {
        name: np.squeeze(value.numpy(), 0) if value.shape[0] == 1 else value.numpy()
        for name, value in variables.items()
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    assign_weights(model, shapes, arrays.__getitem__, where, optional=set(model.head_weights()))


def check_computation(model: "TunableModel", fields: dict[str, Any], where: str) -> None:
    """Refuses a config that no shape gives away but that computes something else."""
    theirs = GPT2Config.from_dict(fields)
    for name in ("n_head", "layer_norm_epsilon"):
        if getattr(theirs, name) != getattr(model.config, name):
            raise UserError(
                f"{where}: {name} is {getattr(theirs, name)}, "
                f"the model's is {getattr(model.config, name)}"
            )


def assign_weights(
    model: "TunableModel",
    shapes: dict[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    where: str,
    optional: set[str],
) -> None:
    """Checks every name and shape against the model's, then assigns.

    Raises:
        UserError: naming the first key that is missing, unexpected or of another shape.
    """
    heads = model.head_weights()
    variables = {**base_weights(model), **heads}
    for name, variable in variables.items():
        if name not in shapes:
            if name in optional:
                continue
            raise UserError(f"{where}: {name} is missing")
        expected = tuple(variable.shape)[::-1] if name in heads else tuple(variable.shape)
        if shapes[name] != expected:
            raise UserError(f"{where}: {name} has shape {shapes[name]}, not {expected}")
    for name in shapes:
        if name not in variables and name not in HEADS:
            raise UserError(f"{where}: {name} is unexpected")
    if "lm_head.weight" in shapes and not np.array_equal(
        read("lm_head.weight"), read("wte.weight")
    ):
        raise UserError(f"{where}: lm_head.weight differs from wte.weight; GPT-2's are tied")
    for name, variable in variables.items():
        if name in shapes:
            variable.assign(read(name).T if name in heads else read(name))
    model.exact_base_sha256 = None
    if holds_rounded(model):
        model.exact_base_sha256 = sha256_of_weights(map(read, base_weights(model)))


# --- writing ---------------------------------------------------------------------------------


def save_directory(
    model: "TunableModel", directory: Path, kernels: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes a directory that transformers loads, in float32, whole or not at all.

    LoRA weights are not part of it: it is the base, with the head where the model has one.

    Args:
        model: built.
        directory: new, or one that an earlier call wrote.
        kernels: written instead of the base's, by their names in files.

    Raises:
        UserError: the directory holds other files.
    """
    kernels = kernels or {}
    # A bare GPT2Model is written without prefix, a model with a head with it, as transformers does.
    prefix = "" if model.base is model else "transformer."
    arrays = {prefix + name: kernels.get(name, array) for name, array in base_arrays(model)}
    for name, variable in model.head_weights().items():
        arrays[name] = np.ascontiguousarray(as_float32(variable).T)
    config = {**FIXED_FIELDS, **model.config.to_dict(), **model.hf_config()}
    config |= {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT, "torch_dtype": "float32"}
    own = files_named(CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES)
    with atomic_directory(directory, own) as partial:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
        if model.config.vocab_size == END_OF_TEXT + 1:
            GPT2Tokenizer().save(partial)
        save_file(arrays, partial / WEIGHTS_FILE, metadata={"format": "pt"})


def as_float32(value: keras.Variable | np.ndarray) -> np.ndarray:
    """A variable's value, or an array, as a float32 array."""
    return np.asarray(getattr(value, "value", value), dtype=np.float32)

"""GPT-2 weights to and from Hugging Face, through one table of names read both ways.

Kernels are (in, out) on both sides, so nothing is transposed but a classifier's `score.weight`.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from gpt2_tuning.arrays import check_finite, save_arrays
from gpt2_tuning.data.tokenizer import TOKENIZER_FILES, GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT, FIXED_FIELDS, TOKENIZER_IDS, GPT2Config
from gpt2_tuning.files import atomic_directory, files_named
from gpt2_tuning.formats.classifier_head import HEAD
from gpt2_tuning.formats.directory import CONFIG_FILE, WEIGHTS_FILE, Checkpoint, Stored

if TYPE_CHECKING:
    from gpt2_tuning.models.tunable import TunableModel

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

TIED_HEAD = "lm_head.weight"
"""A language model's head, which is its token embedding."""


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


# --- reading ---------------------------------------------------------------------------------


def load(model: "TunableModel", checkpoint: Checkpoint) -> None:
    """Takes a directory's weights, memory-mapped and one at a time, all or none of them.

    A head is taken where the model has it and its classes are the model's (`classifier_head`);
    else the model's head stays as it is. What is said of it is in the model's `loading_notes`.

    Raises:
        UserError: a weight is missing, unexpected, of another shape or not finite.
    """
    directory = checkpoint.directory
    check_computation(model, checkpoint.fields, str(directory))
    match = model.match_head(checkpoint)
    taken, optional = dict(checkpoint.weights), set[str]()
    if match is None or match.rows is None:
        taken.pop(HEAD, None)
        optional = set(model.head_weights())
    else:
        taken[HEAD] = taken[HEAD].with_rows(match.rows)
    check_weights(model, taken, str(directory), optional)
    check_tied(taken)
    assign_weights(model, taken)
    notes = unused_parts(model, checkpoint)
    if match is not None:
        model.label_names = match.label_names
        notes += [match.note] if match.note else []
    model.loading_notes = [f"{directory}: {note}" for note in notes]


def check_tied(weights: Mapping[str, Stored]) -> None:
    """Raises UserError where a language model's head is not the token embedding."""
    head, table = weights.get(TIED_HEAD), weights.get("wte.weight")
    if head and table and not np.array_equal(head.read(), table.read()):
        raise UserError(f"{head.where} differs from wte.weight; GPT-2's are tied")


def unused_parts(model: "TunableModel", checkpoint: Checkpoint) -> list[str]:
    """What of a checkpoint the model has no use for, a line each."""
    heads = {HEAD: "a classifier's head", TIED_HEAD: "a language model's head"}
    notes = [
        f"{name}, {what}, is not used"
        for name, what in heads.items()
        if name in checkpoint.weights and name not in model.used_heads()
    ]
    size = model.config.vocab_size
    if size > TOKENIZER_IDS:
        notes.append(
            f"{size - TOKENIZER_IDS} of its {size:,} token ids are not among the tokenizer's "
            f"{TOKENIZER_IDS:,}: no text leads to them, and they are never generated"
        )
    return notes


def load_tf_gpt2(model: "TunableModel", tf_model: Any) -> None:
    """Takes the base's weights from a live TFGPT2Model, TFGPT2LMHeadModel or the like.

    Raises:
        UserError: it is no such model, or a weight is missing, of another shape or not finite.
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
    weights = {}
    for name, variable in variables.items():
        # Conv1D's biases have shape (1, n).
        array = np.squeeze(variable.numpy(), 0) if variable.shape[0] == 1 else variable.numpy()
        read = functools.partial(np.asarray, array)
        weights[name] = Stored(f"{where}: {name}", array.shape, read)
    check_weights(model, weights, where, optional=set(model.head_weights()))
    assign_weights(model, weights)
    model.loading_notes = []


def check_computation(model: "TunableModel", fields: dict[str, Any], where: str) -> None:
    """Refuses a config that no shape gives away but that computes something else."""
    theirs = GPT2Config.from_dict(fields)
    for name in ("n_head", "layer_norm_epsilon"):
        if getattr(theirs, name) != getattr(model.config, name):
            raise UserError(
                f"{where}: {name} is {getattr(theirs, name)}, "
                f"the model's is {getattr(model.config, name)}"
            )


def check_weights(
    model: "TunableModel",
    weights: Mapping[str, Stored],
    where: str,
    optional: set[str],
) -> None:
    """Compares every name and shape with the model's, and looks at every number.

    Raises:
        UserError: naming the first weight that is missing, unexpected, of another shape or not
            finite.
    """
    heads = model.head_weights()
    variables = {**base_weights(model), **heads}
    for name, variable in variables.items():
        if name not in weights:
            if name in optional:
                continue
            raise UserError(f"{where}: {name} is missing")
        expected = tuple(variable.shape)[::-1] if name in heads else tuple(variable.shape)
        if weights[name].shape != expected:
            raise UserError(f"{where}: {name} has shape {weights[name].shape}, not {expected}")
    for name in weights:
        if name not in variables and name != TIED_HEAD:
            raise UserError(f"{where}: {name} is unexpected")
    for name, variable in variables.items():
        if name in weights:
            check_finite(weights[name].read(), weights[name].where, variable.dtype)


def assign_weights(model: "TunableModel", weights: Mapping[str, Stored]) -> None:
    """Gives the model those of its weights that there are, which `check_weights` let pass."""
    heads = model.head_weights()
    for name, variable in {**base_weights(model), **heads}.items():
        if name in weights:
            array = weights[name].read()
            variable.assign(array.T if name in heads else array)
    model.exact_base_sha256 = None
    if holds_rounded(model):
        model.exact_base_sha256 = sha256_of_weights(
            weights[name].read() for name in base_weights(model)
        )


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
    # Converters to GGUF ask for n_ctx, the older name of n_positions.
    config |= {"n_ctx": model.config.n_positions, "torch_dtype": "float32"}
    config |= {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT}
    own = files_named(CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES)
    with atomic_directory(directory, own) as partial:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (partial / CONFIG_FILE).write_text(text, encoding="utf-8", newline="\n")
        if model.config.vocab_size == TOKENIZER_IDS:
            GPT2Tokenizer().save(partial)
        save_arrays(partial / WEIGHTS_FILE, arrays, {"format": "pt"})


def as_float32(value: keras.Variable | np.ndarray) -> np.ndarray:
    """A variable's value, or an array, as a float32 array."""
    return np.asarray(getattr(value, "value", value), dtype=np.float32)

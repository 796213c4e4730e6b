"""Weights to and from Hugging Face, by the family's table of names.

What is transposed there says the table; a classifier's `score.weight` always is.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.arrays import check_finite, save_arrays
from gpt2_tuning.checks import shown
from gpt2_tuning.data.file_tokenizer import TEMPLATE_FILE, write_template
from gpt2_tuning.data.tokenizer import TOKENIZER_FILES, GPT2Tokenizer, Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.family import Family
from gpt2_tuning.files import atomic_directory, files_named
from gpt2_tuning.formats.classifier_head import HEAD
from gpt2_tuning.formats.directory import CONFIG_FILE, WEIGHTS_FILE, Checkpoint, Stored
from gpt2_tuning.formats.holder import Adapted, Holder


def base_arrays(model: Adapted) -> Iterator[tuple[str, np.ndarray]]:
    """The base's weights in the table's order, float32, without updates that are merged in.

    They lie as they do in files.
    """
    kept, transposed = model.kept_kernels, transposed_names(model)
    for name, variable in model.base_weights().items():
        array = as_float32(kept.get(name, variable))
        yield name, array.T if name in transposed else array


def transposed_names(model: Adapted) -> set[str]:
    """The names of what files hold transposed, of the base and of the head."""
    table = model.family.weights(model.config.decoder)
    return {stored.name for stored in table if stored.transposed} | set(model.head_weights())


def sha256_of_weights(arrays: Iterable[np.ndarray]) -> str:
    """sha256 over the bytes of arrays as little-endian float32, row by row, one after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()


def sha256_of_base(checkpoint: Checkpoint) -> str:
    """That of a base on disk, as adapters record it."""
    table = known.family_of(checkpoint.config).weights(checkpoint.config.decoder)
    return sha256_of_stored(checkpoint.weights[stored.name] for stored in table)


def sha256_of_stored(weights: Iterable[Stored]) -> str:
    """As `sha256_of_weights`, of arrays that are not read yet."""
    return sha256_of_weights(block for stored in weights for _, block in stored.blocks())


# --- reading ---------------------------------------------------------------------------------


def load(model: Holder, checkpoint: Checkpoint) -> None:
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
    if model.config.decoder.tied_head:
        check_tied(taken, model.family)
    assign_weights(model, taken)
    notes = unused_parts(model, checkpoint)
    if match is not None:
        model.label_names = match.label_names
        notes += [match.note] if match.note else []
    model.loading_notes = [f"{directory}: {note}" for note in notes]


def check_tied(weights: Mapping[str, Stored], family: Family) -> None:
    """Raises UserError where a language model's head is not the token embedding."""
    head, table = weights.get(family.head), weights.get(family.embedding)
    if head and table and not np.array_equal(head.read(), table.read()):
        raise UserError(f"{head.where} differs from {family.embedding}, but the two are tied")


def unused_parts(model: Holder, checkpoint: Checkpoint) -> list[str]:
    """What of a checkpoint the model has no use for, a line each."""
    heads = {HEAD: "a classifier's head", model.family.head: "a language model's head"}
    notes = [
        f"{name}, {what}, is not used"
        for name, what in heads.items()
        if name in checkpoint.weights and name not in model.used_heads()
    ]
    size, known = model.config.decoder.vocabulary, GPT2Tokenizer.vocabulary
    if size > known and model.family.has_gpt2_tokenizer:
        notes.append(
            f"{size - known} of its {size:,} token ids are not among the tokenizer's "
            f"{known:,}: no text leads to them, and they are never generated"
        )
    return notes


def check_computation(model: Holder, fields: dict[str, Any], where: str) -> None:
    """Refuses a config that no shape gives away but that computes something else."""
    if fields.get("model_type", model.family.name) != model.family.name:
        raise UserError(
            f"{where} is a {shown(fields['model_type'])}, the model a {model.family.name}"
        )
    theirs = model.family.config_of(fields)
    for name in model.family.unseen_fields:
        found, mine = getattr(theirs, name), getattr(model.config, name)
        if found != mine:
            said = "the sliding_window of each layer" if name == "windows" else name
            raise UserError(f"{where}: {said} is {found}, the model's is {mine}")


def check_weights(
    model: Holder,
    weights: Mapping[str, Stored],
    where: str,
    optional: set[str],
) -> None:
    """Compares every name and shape with the model's, and looks at every number.

    Raises:
        UserError: naming the first weight that is missing, unexpected, of another shape or not
            finite.
    """
    transposed = transposed_names(model)
    variables = {**model.base_weights(), **model.head_weights()}
    for name, variable in variables.items():
        if name not in weights:
            if name in optional:
                continue
            raise UserError(f"{where}: {name} is missing")
        expected = tuple(variable.shape)[::-1] if name in transposed else tuple(variable.shape)
        if weights[name].shape != expected:
            raise UserError(f"{where}: {name} has shape {weights[name].shape}, not {expected}")
    for name in weights:
        if name not in variables and name != model.family.head:
            raise UserError(f"{where}: {name} is unexpected")
    for name, variable in variables.items():
        if name in weights:
            for _, block in weights[name].blocks():
                check_finite(block, weights[name].where, variable.dtype)


def assign_weights(model: Holder, weights: Mapping[str, Stored]) -> None:
    """Gives the model those of its weights that there are, which `check_weights` let pass."""
    transposed = transposed_names(model)
    for name, variable in {**model.base_weights(), **model.head_weights()}.items():
        if name in weights:
            place(weights[name], variable, name in transposed)
    model.exact_base_sha256 = None
    if model.holds_rounded:
        names = (name for name in model.base_weights() if name != model.family.head)
        model.exact_base_sha256 = sha256_of_stored(weights[name] for name in names)


def place(stored: Stored, variable: keras.Variable, transposed: bool) -> None:
    """Gives a variable a stored array, a block at a time, on each device that holds it."""
    held = tf.distribute.get_strategy().experimental_local_results(variable.value)
    for rows, block in stored.blocks():
        if rows == slice(None):
            variable.assign(block)
            continue
        value = tf.cast(block.T if transposed else block, variable.dtype)
        for part in held:
            # `part[rows].assign` would read the rows first, and not let go of them.
            tf.raw_ops.ResourceStridedSliceAssign(
                ref=part.handle,
                begin=[0, rows.start] if transposed else [rows.start],
                end=[0, rows.stop] if transposed else [rows.stop],
                strides=[1, 1] if transposed else [1],
                value=value,
                begin_mask=int(transposed),
                end_mask=int(transposed),
            )
    for part in held:
        # A variable that was assigned to by parts is copied at every read until it is told not to.
        tf.raw_ops.DisableCopyOnRead(resource=part.handle)


# --- writing ---------------------------------------------------------------------------------


def save_directory(
    model: Holder,
    directory: Path,
    kernels: Mapping[str, np.ndarray] | None = None,
    heads: Mapping[str, Any] | None = None,
    head_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes a directory that transformers loads, in float32, whole or not at all.

    LoRA weights are not part of it: it is the base, with the head where the model has one.

    Args:
        model: built.
        directory: new, or one that an earlier call wrote.
        kernels: written instead of the base's, by their names in files; they lie as here.
        heads: instead of the model's, (in, out).
        head_config: what config.json says of them.

    Raises:
        UserError: the directory holds other files.
    """
    kernels, transposed = kernels or {}, transposed_names(model)
    kernels = {name: array.T if name in transposed else array for name, array in kernels.items()}
    heads = model.head_weights() if heads is None else heads
    used = {*heads, *model.used_heads()}
    # A bare base is written without prefix, a model with a head with it, as transformers does.
    prefix = model.family.base_prefix if used else ""
    arrays = {
        name if name in used else prefix + name: np.ascontiguousarray(kernels.get(name, array))
        for name, array in base_arrays(model)
    }
    for name, variable in heads.items():
        arrays[name] = np.ascontiguousarray(as_float32(variable).T)
    head_config = model.hf_config() if head_config is None else head_config
    write_directory(model, directory, arrays, head_config)


def save_base(model: Holder, directory: Path) -> None:
    """Writes the base alone, as `save_directory` does a model without a head.

    A language model's head of its own is no adapter's, and so the base's.
    """
    if model.family.head in model.base_weights():
        save_directory(model, directory)
        return
    head = {"architectures": [model.family.architectures.base]}
    arrays = {name: np.ascontiguousarray(array) for name, array in base_arrays(model)}
    write_directory(model, directory, arrays, head)


def write_directory(
    model: Holder, directory: Path, arrays: dict[str, np.ndarray], head: Mapping[str, Any]
) -> None:
    """Writes arrays by their names in files, and config.json with what it says of the head."""
    tokenizer = tokenizer_to_write(model)
    config = with_ends(model.family.fields_of(model.config, head), tokenizer)
    own = files_named(CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES, TEMPLATE_FILE)
    with atomic_directory(directory, own) as partial:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (partial / CONFIG_FILE).write_text(text, encoding="utf-8", newline="\n")
        if tokenizer is not None:
            tokenizer.save(partial)
        write_template(partial, model.chat_template, model.tokenizer_dir)
        save_arrays(partial / WEIGHTS_FILE, arrays, {"format": "pt"})


def with_ends(fields: dict[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """config.json's fields, which name the tokens that begin and end the tokenizer's texts.

    Those that a base came with stay where its tokenizer's end is among them: it may have several.
    """
    if tokenizer is None:
        return fields
    ends = fields.get("eos_token_id")
    if tokenizer.end in (ends if isinstance(ends, list) else [ends]):
        return fields
    start = tokenizer.end if tokenizer.start is None else tokenizer.start
    return {**fields, "bos_token_id": start, "eos_token_id": tokenizer.end}


def tokenizer_to_write(model: Holder) -> Tokenizer | None:
    """What a model's directory gets of a tokenizer: none that does not know all of its ids.

    But for one that came with the base: bases have rows to spare.
    """
    try:
        tokenizer = model.tokenizer
    except UserError:
        return None
    known = tokenizer.vocabulary == model.config.decoder.vocabulary
    return tokenizer if known or not isinstance(tokenizer, GPT2Tokenizer) else None


def as_float32(value: keras.Variable | np.ndarray) -> np.ndarray:
    """A variable's value, or an array, as a float32 array."""
    return np.asarray(getattr(value, "value", value), dtype=np.float32)

"""LoRA updates added into the kernels and taken out again, and exported that way.

A merged model computes through its kernels alone: its passes have no gate. The kernels from before
are kept, since subtracting an update again would not give back the same bits.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.huggingface import as_float32, save_directory
from gpt2_tuning.models.gate import OWN, Gate, MergedKernels
from gpt2_tuning.models.pretrained import PretrainedModel

TOLERANCE = 1e-4
"""The largest difference that merging may make to an output, as a share of the largest output:
rounding grows with the numbers of a model."""


def merge(model: PretrainedModel, gate: Gate) -> float:
    """Adds every update to its kernel, in float32, and turns the updates off.

    Merging a merged model changes nothing.

    Returns:
        The largest difference of the outputs on the probe batch, as a share of the largest.

    Raises:
        UserError: that difference is above TOLERANCE, or the updates are switched off; the model
            is as it was before.
    """
    if gate.merged is not None:
        return gate.merged.difference
    if not gate.on:
        raise UserError("merge() inside disable_lora(): leave that block first")
    before = probe(model)
    merged = merged_kernels(model)
    kernels = model.base_weights()
    kept = {name: kernels[name].numpy() for name in merged}
    try:
        for name, kernel in merged.items():
            kernels[name].assign(kernel)
        gate.merged = MergedKernels(kept, 0.0)
        gate.refresh()
        difference = float(np.max(np.abs(probe(model) - before)) / np.max(np.abs(before)))
        # Written so that a difference of NaN is refused too.
        if not difference <= TOLERANCE:
            raise UserError(
                f"merging changes the outputs by {difference:.2g} of the largest, more than "
                f"{TOLERANCE:g} (computed in {model.compute_dtype}): the model stays unmerged"
            )
    except BaseException:
        restore(model, gate, kept)
        raise
    gate.merged = gate.merged._replace(difference=difference)
    return difference


def unmerge(model: PretrainedModel, gate: Gate) -> None:
    """Puts back the kernels from before `merge`, bit for bit; nothing where nothing is merged."""
    if gate.merged is not None:
        restore(model, gate, gate.merged.kept)


def restore(model: PretrainedModel, gate: Gate, kept: dict[str, np.ndarray]) -> None:
    """Assigns the kept kernels and turns the updates on."""
    kernels = model.base_weights()
    for name, kernel in kept.items():
        kernels[name].assign(kernel)
    gate.merged = None
    gate.refresh()


def merge_and_export(model: PretrainedModel, directory: Path) -> None:
    """Writes base + updates, summed in float32, as a plain Hugging Face model with its head.

    The model stays as it is.

    Raises:
        UserError: the directory holds other files, or the updates are switched off.
    """
    assert model.gate is not None
    if not model.gate.on:
        raise UserError("merge_and_export() inside disable_lora(): leave that block first")
    kernels, heads = merged_kernels(model), model.chosen_head_weights()
    if OWN in model.gate.chosen:
        own = {name: as_float32(variable) for name, variable in model.own_weights().items()}
        kernels |= {name: value for name, value in own.items() if name in model.base_weights()}
    save_directory(model, directory, kernels, heads, model.chosen_hf_config())


def merged_kernels(model: PretrainedModel) -> dict[str, np.ndarray]:
    """Base + updates of what is chosen for every layer that it adapts, by its name in files.

    Float32, whether the model is merged or not.

    Raises:
        UserError: no adapter is chosen.
    """
    kept, kernels = model.kept_kernels, model.base_weights()
    merged: dict[str, np.ndarray] = {}
    for layer, delta in chosen_deltas(model):
        name = f"{layer}.weight"
        if name not in merged:
            merged[name] = as_float32(kept.get(name, kernels[name]))
        merged[name] = merged[name] + delta
    if not merged:
        raise UserError('no adapter is chosen that could be merged: set_adapter("NAME") first')
    return merged


def chosen_deltas(model: PretrainedModel) -> Iterator[tuple[str, np.ndarray]]:
    """What each adapter that is chosen adds to a kernel, by the layer's name in the base."""
    assert model.gate is not None
    kept, kernels = model.kept_kernels, model.base_weights()
    for name, share in model.gate.chosen.items():
        if name == OWN:
            layers = {at: layer.factors() for at, layer in model.lora_layers().items()}
        else:
            added = model.gate.added[name].layers.items()
            layers = {at: factors for at, (_, _, factors) in added}
        for at, factors in layers.items():
            kernel = f"{at}.weight"
            delta = factors.delta(kept.get(kernel, kernels[kernel]))
            yield at, delta if share == 1 else np.float32(share) * delta


def probe(model: PretrainedModel) -> np.ndarray:
    """The model's outputs for a fixed batch of two rows of random tokens."""
    config = model.transformer.config
    length = min(16, config.positions)
    ids = np.random.default_rng(0).integers(config.vocabulary, size=(2, length))
    inputs = {
        "token_ids": tf.constant(ids, tf.int32),
        "attention_mask": tf.ones([2, length], tf.int32),
    }
    with exact_products():
        return keras.ops.convert_to_numpy(keras.ops.cast(model(inputs, training=False), "float32"))


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """No TensorFloat-32 inside the block: on a GPU its rounding would pass for a bad merge."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)

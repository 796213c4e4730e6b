"""A SavedModel of one model or of several on one base: a signature each, and the base once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.signatures import Signature, Tensors
from gpt2_tuning.models.tunable import TunableModel

DEFAULT = "serving_default"
"""The signature that is called where none is named: the first."""


class Served(NamedTuple):
    """A model and what it answers."""

    model: TunableModel
    signature: Signature


class Weights(tf.Module):
    """The variables of a SavedModel."""

    def __init__(self, variables: Sequence[tf.Variable]):
        super().__init__()
        self.held = list(variables)


def save(served: Mapping[str, Served], directory: Path) -> None:
    """Writes a SavedModel that is loaded and called without this library.

    Args:
        served: by the names of the signatures. Of several models the first one's base serves all.
        directory: where it goes.

    Raises:
        UserError: the bases of several differ.
    """
    first = next(iter(served.values())).model
    replaced = {name: shared(first, one.model, name) for name, one in served.items()}
    held: dict[int, tf.Variable] = {}
    for name, one in served.items():
        gone = {id(variable) for variable, _ in replaced[name]}
        own = [variable for variable in variables_of(one.model) if id(variable) not in gone]
        held |= {id(variable): variable.value for variable in own}
    signatures = {name: traced(one, replaced[name]) for name, one in served.items()}
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    module = Weights(list(held.values()))
    default = {DEFAULT: next(iter(signatures.values()))}
    tf.saved_model.save(module, str(directory), {**default, **signatures}, options)


def variables_of(model: TunableModel) -> list[keras.Variable]:
    """All that a pass of a model may read."""
    return [*model.variables, *([model.gate.variable] if model.gate else [])]


Replaced = Sequence[tuple[keras.Variable, keras.Variable]]
"""Variables of a base, each with the one of another model that stands for it."""


def shared(first: TunableModel, model: TunableModel, name: str) -> Replaced:
    """The base's variables of a model with those of the first, which are the same.

    Raises:
        UserError: they are not.
    """
    if model is first:
        return []
    theirs, pairs = first.base_weights(), []
    for weight, variable in model.base_weights().items():
        other = theirs.get(weight)
        if other is None:  # a head of a language model's own
            continue
        same_shape = tuple(other.shape) == tuple(variable.shape)
        if not same_shape or not np.array_equal(other.numpy(), variable.numpy()):
            raise UserError(f"{name} has another base than the first: its {weight} differs")
        pairs.append((variable, other))
    if len(pairs) < len(model.transformer.weights) - len(model.lora_weights()):
        raise UserError(f"{name} has another base than the first: it is of another family")
    return pairs


def traced(served: Served, replaced: Replaced) -> tf.types.experimental.ConcreteFunction:
    """The graph of a signature, which reads the base's variables that it shares."""

    def answer(**inputs: tf.Tensor) -> Tensors:
        scope = keras.StatelessScope()
        for variable, other in replaced:
            scope.add_update((variable, tf.convert_to_tensor(other.value)))
        if not replaced:
            return dict(served.signature.answer(inputs))
        with scope:
            return dict(served.signature.answer(inputs))

    specs = {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in served.signature.inputs.items()
    }
    return tf.function(answer, autograph=False).get_concrete_function(**specs)

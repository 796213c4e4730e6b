"""What a training changes, and its values in a file."""

from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file

from gpt2_tuning.arrays import save_arrays
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.tunable import TunableModel


def changing_variables(
    model: TunableModel, optimizer: keras.optimizers.Optimizer
) -> list[keras.Variable]:
    """What training changes: tuned weights, dropout's seed states, the optimizer's variables.

    Frozen weights are left out: they come back with the base.
    """
    frozen = {id(weight) for weight in frozen_weights(model)}
    own = [variable for variable in model.variables if id(variable) not in frozen]
    return [*own, *optimizer.variables]


def frozen_weights(model: TunableModel) -> list[keras.Variable]:
    """What training leaves as it is."""
    return [weight for weight in model.weights if not weight.trainable]


def save_variables(path: Path, variables: list[keras.Variable]) -> None:
    """Writes the variables' values, in their order."""
    # A scalar variable's value is a NumPy scalar, which safetensors takes for no array.
    arrays = {f"{index:05d}": np.asarray(value) for index, value in enumerate(variables)}
    save_arrays(path, arrays)


def load_variables(path: Path, variables: list[keras.Variable]) -> None:
    """Sets the variables to values that `save_variables` wrote, all or none.

    Raises:
        UserError: the file holds other variables than these.
    """
    arrays = load_file(path)
    if [arrays[name].shape for name in sorted(arrays)] != [tuple(v.shape) for v in variables]:
        raise UserError(f"{path} holds the variables of another model")
    for name, variable in zip(sorted(arrays), variables, strict=True):
        variable.assign(arrays[name])

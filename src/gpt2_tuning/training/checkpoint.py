"""Checkpoints that a run continues from exactly: every variable that changes, and the progress."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory
from gpt2_tuning.models.tunable import TunableModel

KEPT = 2
ARRAYS_FILE = "variables.safetensors"
PROGRESS_FILE = "progress.json"


@dataclasses.dataclass
class Progress:
    """Where a run is, but for its variables. All of it goes into a checkpoint."""

    epoch: int = 0
    step: int = 0
    """Batches of this epoch that are done."""
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """What this epoch's batches have added up to."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """One row of figures for each finished epoch."""
    best_epoch: int | None = None
    """The epoch, counted from 1, whose weights did best on validation."""
    stopped: bool = False
    """Whether validation stopped improving for too long."""


def changing_variables(
    model: TunableModel, optimizer: keras.optimizers.Optimizer
) -> list[keras.Variable]:
    """What training changes: tuned weights, dropout's seed states, the optimizer's variables.

    Frozen weights are left out: they come back with the base.
    """
    frozen = {id(weight) for weight in model.weights if not weight.trainable}
    own = [variable for variable in model.variables if id(variable) not in frozen]
    return [*own, *optimizer.variables]


def save_checkpoint(
    directory: Path, variables: list[keras.Variable], progress: Progress, name: str
) -> None:
    """Writes `directory/name`, whole or not at all, and removes all but the newest KEPT."""
    with atomic_directory(directory / name) as partial:
        save_variables(partial / ARRAYS_FILE, variables)
        text = json.dumps(dataclasses.asdict(progress))
        (partial / PROGRESS_FILE).write_text(text, encoding="utf-8")
    for old in checkpoints(directory)[:-KEPT]:
        shutil.rmtree(old)


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints there, oldest first."""
    return sorted(directory.glob("step-*"))


def restore_newest(directory: Path, variables: list[keras.Variable]) -> Progress:
    """Sets the variables as they were and returns the progress.

    Raises:
        UserError: there is no checkpoint, or the newest does not fit or is damaged.
    """
    found = checkpoints(directory)
    if not found:
        raise UserError(f"no checkpoint in {directory}: nothing to resume; use --overwrite")
    newest = found[-1]
    try:
        text = (newest / PROGRESS_FILE).read_text(encoding="utf-8")
        progress = Progress(**json.loads(text))
        load_variables(newest / ARRAYS_FILE, variables)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(f"the checkpoint {newest} cannot be used: {error}") from error
    return progress


def save_variables(path: Path, variables: list[keras.Variable]) -> None:
    """Writes the variables' values, in their order."""
    # A scalar variable's value is a NumPy scalar, which safetensors takes for no array.
    arrays = {f"{index:05d}": np.asarray(value) for index, value in enumerate(variables)}
    save_file(arrays, path)


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

"""What a run is: all that decides on its result and is not in a checkpoint."""

from typing import Any

from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.families.known import DEFAULT
from gpt2_tuning.formats.huggingface import as_float32, sha256_of_weights
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training import run_directory
from gpt2_tuning.training.variables import frozen_weights

UPDATES = "way of dividing examples into updates"
"""What none of an earlier version names: it had another way."""


def described(
    options: TrainOptions,
    learning_rate: float,
    train: BatchSource,
    validation: BatchSource,
    model: TunableModel,
) -> dict[str, Any]:
    """The flags, and sums over the data and the frozen weights, as plain values by what they are.

    Args:
        options: the flags.
        learning_rate: the schedule's peak.
        train: batches to train on.
        validation: batches that decide on the best weights.
        model: as it is before the first update.
    """
    settings = run_directory.as_settings(options)
    defaults = run_directory.as_settings(type(options)())
    for name in run_directory.NEWEST:
        if name in settings and settings[name] == defaults[name]:
            del settings[name]
    # A base may have another path on another machine: its weights count.
    apart = [*run_directory.MAY_CHANGE, "pretrained"]
    if settings["family"] == DEFAULT:
        apart.append("family")  # older runs have no word for it
    return {
        **{name: settings[name] for name in settings if name not in apart},
        **({UPDATES: train.divided} if train.divided else {}),
        "learning_rate": learning_rate,
        "train split": train.records.checksum(),
        "validation split": validation.records.checksum(),
        "frozen weights": sha256_of_weights(map(as_float32, frozen_weights(model))),
    }

"""What every train.py's run is made of, whatever the model's head."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import keras
import tensorflow as tf

from gpt2_tuning import paths
from gpt2_tuning.cluster import is_chief
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training import base_model, precision, run_directory
from gpt2_tuning.training.finishing import finish
from gpt2_tuning.training.layout import with_layout
from gpt2_tuning.training.model_card import ModelCard, shape_of
from gpt2_tuning.training.objective import Objective
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.summary import summary
from gpt2_tuning.training.tuner import Tuner

OptionsT = TypeVar("OptionsT", bound=TrainOptions)
ModelT = TypeVar("ModelT", bound=TunableModel)


def set_up(
    task: str, options: OptionsT, metadata: Metadata
) -> tuple[OptionsT, Path, tf.distribute.Strategy]:
    """What comes before anything is read or made: the flags as this run has them, place, devices.

    Raises:
        UserError: the run directory may not be used so, or the devices cannot be those wanted.
    """
    options = base_model.with_base_of_data(options, metadata)
    options, line = precision.resolved(with_layout(base_model.with_family(options)))
    if options.dataset_dir is None and not paths.in_checkout():
        # The default follows the working directory there, and the run is to find its data again.
        options = dataclasses.replace(options, dataset_dir=paths.dataset_dir(task).absolute())
    run_dir = run_directory.check_run_dir(task, options, metadata)
    tf.config.experimental.enable_tensor_float_32_execution(options.tensor_float_32)
    strategy = make_strategy(options.strategy, options.logical_devices)
    if line and is_chief(options.strategy):
        print(line)
    return options, run_dir, strategy


@contextlib.contextmanager
def tuned(
    model_class: type[ModelT],
    objective: Callable[[ModelT], Objective],
    options: TrainOptions,
    metadata: Metadata,
    run_dir: Path,
    strategy: tf.distribute.Strategy,
    sources: tuple[BatchSource, BatchSource],
    **arguments: Any,
) -> Iterator[Tuner]:
    """From base weights to the best ones, which the tuner's model has inside the block.

    So long the process has the run directory, the tuner's `run_dir`, to itself. With the block's
    end the run is finished: see `finishing`.

    Args:
        model_class: the model to make.
        objective: what the model is to learn.
        options: the flags.
        metadata: the data.
        run_dir: from `check_run_dir`; the chief makes it.
        strategy: the devices.
        sources: what to train on, and what decides on the best weights.
        arguments: the model class's own, such as `label_names`.

    Raises:
        UserError: the base weights cannot be had, the run directory is another process's by now,
            or the training cannot go on.
    """
    keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        model = base_model.make_model(model_class, options, metadata, **arguments)
    with run_directory.begun(run_dir, options, metadata) as run_dir:
        if is_chief(options.strategy):
            base_model.keep_random_base(model, options, run_dir)
        rate = base_model.learning_rate_of(options)
        tuner = Tuner(objective(model), *sources, options, rate, run_dir, strategy)
        if is_chief(options.strategy):
            for line in summary(model, options, sources[0], tuner.validations.updates, strategy):
                print(line)
        tuner.fit(resume=options.resume)
        yield tuner
        if is_chief(options.strategy):
            finish(tuner)


def card_of(tuner: Tuner, metadata: Metadata, title: str, example: str) -> ModelCard:
    """The model card of a run that is done."""
    options, progress = tuner.options, tuner.progress
    settings = run_directory.as_settings(options)
    return ModelCard(
        title,
        example,
        {**settings, "learning_rate": base_model.learning_rate_of(options)},
        shape_of(tuner.model),
        metadata,
        progress.history,
        progress.best_row(),
        options.unit,
    )

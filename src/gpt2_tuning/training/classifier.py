"""A classifier's whole run: trained, saved and scored. Tasks differ in what they classify.

Classification and entailment share all of it; their scripts say what is theirs.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt2_tuning import paths
from gpt2_tuning.baselines import frequency_figures
from gpt2_tuning.cluster import is_chief
from gpt2_tuning.data.metadata import Metadata, read_metadata
from gpt2_tuning.data.tfrecords import Records, read_records
from gpt2_tuning.markdown import escaped, table
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs import tuned_model
from gpt2_tuning.training import evaluation, run_directory, seeds, starts
from gpt2_tuning.training.class_weights import class_weights, in_words
from gpt2_tuning.training.layout import classifier_batches
from gpt2_tuning.training.model_card import CARD_FILE
from gpt2_tuning.training.objective import RightClass
from gpt2_tuning.training.run import card_of, set_up, tuned
from gpt2_tuning.training.strategy import lost_workers_reported, wait_for_all
from gpt2_tuning.training.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class ClassifierData:
    """A prepared data set, as training reads it."""

    metadata: Metadata
    train: Records
    validation: Records
    weights: np.ndarray | None
    """float32 [classes]: how much each counts in training, where they differ."""


@lost_workers_reported()
def train_classifier(options: ClassifierOptions, task: str, *, title: str, example: str) -> None:
    """Trains on the train split, keeps what does best on validation, and reports.

    Args:
        options: the flags. With `seeds` above 1 there is a run for each, in a directory of its own.
        task: such as `classification`, the first word of its folder's name.
        title: what the model does, as the heading of its card.
        example: the flags with which the task's test.py labels an example.

    Raises:
        UserError: the data, the base weights or the run directory cannot be used.
    """
    options = starts.with_start(options)
    dataset_dir = options.dataset_dir or paths.dataset_dir(task)
    metadata = read_metadata(dataset_dir, task)
    options, run_dir, strategy = set_up(task, options, metadata)
    train, validation = (
        read_records(dataset_dir, metadata, name) for name in ("train", "validation")
    )
    weights = class_weights(options.class_weights, metadata)
    if weights is not None:
        train = train.weighted(weights[train.columns["label"]])
        if is_chief(options.strategy):
            print(f"class weights: {in_words(weights, metadata.label_names or [])}")
    data = ClassifierData(metadata, train, validation, weights)
    run = functools.partial(train_run, strategy=strategy, data=data, title=title, example=example)
    if options.seeds == 1:
        run_dir = run(options, run_dir)
    else:
        with run_directory.begun(run_dir, options, metadata) as parent:
            run_dir = seeds.train_seeds(run, options, parent, metadata, title)
    if is_chief(options.strategy):
        print(f"next: {paths.step_command('test', task)} --run_dir {run_dir} --evaluate")


def train_run(
    options: ClassifierOptions,
    run_dir: Path,
    strategy: tf.distribute.Strategy,
    data: ClassifierData,
    title: str,
    example: str,
) -> Path:
    """One run with one seed, from base weights to model card, in the directory returned."""
    metadata, replicas = data.metadata, strategy.num_replicas_in_sync
    with tuned(
        Classifier,
        functools.partial(RightClass, smoothing=options.label_smoothing or 0.0),
        options,
        metadata,
        run_dir,
        strategy,
        (
            classifier_batches(data.train, options, replicas * options.gradient_accumulation),
            classifier_batches(data.validation, options, replicas),
        ),
        label_names=metadata.label_names,
    ) as tuner:
        if is_chief(options.strategy):
            report(tuner, data, title, example)
    wait_for_all(strategy)
    return tuner.run_dir


def learnt_otherwise(
    options: ClassifierOptions, data: ClassifierData, confusion: np.ndarray
) -> str:
    """What of the loss was not as usual, and what it does to classes, for the card.

    Args:
        options: the flags.
        data: what was tuned on.
        confusion: int [classes, classes] of the validation split, rows are true.

    Returns:
        Markdown; nothing where all was as usual.
    """
    lines = []
    if data.weights is not None:
        names = data.metadata.label_names or []
        counts = data.metadata.label_counts("train")
        right = np.diag(confusion)
        recall, precision = (right / np.maximum(confusion.sum(axis=axis), 1) for axis in (1, 0))
        columns = zip(names, counts, data.weights, recall, precision, strict=True)
        rows = [
            [escaped(name), f"{count:,}", f"{weight:.3g}", f"{found:.4f}", f"{sure:.4f}"]
            for name, count, weight, found, sure in columns
        ]
        lines.append(
            "In training a class counted by its weight: a heavy one is found more often (recall) "
            "and\nnamed wrongly more often (precision). The scores above weigh nothing.\n\n"
            + table(["class", "rows", "weight", "recall", "precision"], rows)
        )
    if options.label_smoothing:
        lines.append(f"Labels were smoothed by {options.label_smoothing:g} in training.")
    return "".join(f"\n\n{line}" for line in lines)


def report(tuner: Tuner, data: ClassifierData, title: str, example: str) -> None:
    """Saves what was tuned, scores it on the validation split, and writes the model card."""
    model, options, run_dir, metadata = tuner.model, tuner.options, tuner.run_dir, data.metadata
    assert isinstance(model, Classifier)
    assert isinstance(options, ClassifierOptions)
    tuned_model.save_tuned(model, run_dir)
    found = evaluation.evaluate_classifier(
        model, data.validation, metadata, run_dir, "validation", options.batch_size
    )
    train, validation = (np.array(metadata.label_counts(name)) for name in ("train", "validation"))
    card_of(tuner, metadata, title, example).write(
        run_dir,
        evaluation.scorecard_section(found)
        + learnt_otherwise(options, data, found.scores.confusion),
        frequency_figures(train, validation),
        "baseline: label frequencies",
    )
    print(f"run: {run_dir}\nreport: {run_dir / CARD_FILE}")

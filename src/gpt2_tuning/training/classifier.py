"""A classifier's whole run: trained, saved, scored, and tried. Tasks differ in what they classify.

Classification and entailment share all of it; their scripts say what is theirs.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt2_tuning import paths
from gpt2_tuning.baselines import frequency_figures
from gpt2_tuning.data.metadata import Metadata, read_metadata
from gpt2_tuning.data.tfrecords import Records, read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import labelling
from gpt2_tuning.inference.answering import InputColumns, file_to_answer, readable
from gpt2_tuning.inference.classification import classify
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.testing import LabelOptions
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.training import base_model, evaluation, run_directory, seeds
from gpt2_tuning.training.cluster import is_chief
from gpt2_tuning.training.finished_run import metadata_of_run
from gpt2_tuning.training.layout import classifier_batches
from gpt2_tuning.training.model_card import CARD_FILE, report_test_scores
from gpt2_tuning.training.precision import round_as_in_training
from gpt2_tuning.training.run import card_of, set_up, tuned
from gpt2_tuning.training.strategy import lost_workers_reported, make_strategy, wait_for_all
from gpt2_tuning.training.tuner import Tuner


@dataclasses.dataclass(frozen=True)
class ClassifierData:
    """A prepared data set, as training reads it."""

    metadata: Metadata
    train: Records
    validation: Records


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
    dataset_dir = options.dataset_dir or paths.dataset_dir(task)
    metadata = read_metadata(dataset_dir, task)
    options, run_dir, strategy = set_up(task, options, metadata)
    records = [read_records(dataset_dir, metadata, name) for name in ("train", "validation")]
    data = ClassifierData(metadata, *records)
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
        GPT2Classifier,
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


def report(tuner: Tuner, data: ClassifierData, title: str, example: str) -> None:
    """Saves what was tuned, scores it on the validation split, and writes the model card."""
    model, options, run_dir, metadata = tuner.model, tuner.options, tuner.run_dir, data.metadata
    assert isinstance(model, GPT2Classifier)
    base_model.save_tuned(model, run_dir)
    found = evaluation.evaluate_classifier(
        model, data.validation, metadata, run_dir, "validation", options.batch_size
    )
    train, validation = (np.array(metadata.label_counts(name)) for name in ("train", "validation"))
    card_of(tuner, metadata, title, example).write(
        run_dir,
        evaluation.scorecard_section(found),
        frequency_figures(train, validation),
        "baseline: label frequencies",
    )
    print(f"run: {run_dir}\nreport: {run_dir / CARD_FILE}")


def try_classifier(options: LabelOptions, task: str, columns: Sequence[str]) -> None:
    """Rebuilds a run's model and does what the flags of a test.py ask for.

    Whatever is wrong with the flags, the texts or the files is found out before the model is made.

    Args:
        options: the flags; `texts()` has what is to be labelled.
        task: the task the run must be of.
        columns: those of --input that hold what `texts()` names, in its order.

    Raises:
        UserError: the run, its data or the input cannot be used.
    """
    run_dir = options.run_dir or run_directory.newest_run(task)
    if (run_dir / seeds.SEEDS_FILE).is_file():
        raise UserError(f"{run_dir} holds a run for each seed: give --run_dir one of them")
    metadata = metadata_of_run(run_dir, task)
    round_as_in_training(run_dir)
    texts = options.texts()
    flags = " and ".join(f"--{name}" for name in texts)
    examples = [readable(fields, flags) for fields in zip(*texts.values(), strict=True)]
    records = None
    if options.evaluate:
        records = run_directory.split_of_run(run_dir, metadata, "test", options.dataset_dir)
    in_file, added = InputColumns(tuple(columns)), (labelling.ADDED, labelling.BATCHES_AT_ONCE)
    with file_to_answer(options, run_dir, metadata, in_file, *added) as file:
        with make_strategy(options.strategy).scope():
            model = base_model.load_tuned(GPT2Classifier, run_dir, label_names=metadata.label_names)
        predict = functools.partial(
            classify, model, batch_size=options.batch_size, seq_len=metadata.seq_len
        )
        if examples:
            labelling.print_predictions(examples, predict)
        if file:
            labelling.label_file(file, predict)
    if records is not None:
        found = evaluation.evaluate_classifier(
            model, records, metadata, run_dir, "test", options.batch_size
        )
        report_test_scores(run_dir, evaluation.scorecard_section(found))
    if options.interactive:
        labelling.ask(InputColumns(tuple(texts)), predict)

"""How tests run the scripts, and what they look at afterwards."""

import csv
import json

import tensorflow as tf

from classification_tuning import prep_dataset, train
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.watching import MEASURED

DATASET_FILES = ["metadata.json", "test.tfrecord.gz", "train.tfrecord.gz", "validation.tfrecord.gz"]
"""What every prepared data set consists of."""

RUN_FILES = {
    "README.md",
    "calibration_validation.png",
    "checkpoints",
    "confusion_validation.png",
    "curves.png",
    "metadata.json",
    "metrics.csv",
    "options.yaml",
    "tensorboard",
    "validation.json",
    "weights.json",
}
"""What every classifier's run leaves, beside its model or adapter."""
CLASSIFIER_PICTURES = {"calibration_validation.png", "confusion_validation.png"}


def names(directory):
    """What lies in a directory."""
    return {path.name for path in directory.iterdir()}


def listing(directory):
    """The same in order."""
    return sorted(names(directory))


def read(directory):
    """The metadata.json of a data set or a run."""
    return json.loads((directory / "metadata.json").read_text(encoding="utf-8"))


def refused(main, capsys, *flags, silent=False):
    """Runs a script that must end with exit code 2; returns its one line.

    With `silent` it must have said nothing else.
    """
    capsys.readouterr()
    assert main([str(flag) for flag in flags]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert not (silent and shown.out)
    return shown.err


def snapshot(directory):
    """The files below a directory and when each was written."""
    return {
        path: path.stat().st_mtime_ns for path in sorted(directory.rglob("*")) if path.is_file()
    }


def metrics(run_dir):
    """The rows of metrics.csv, without what depends on the machine."""
    with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in MEASURED} for row in rows]


def summaries(run_dir, part):
    """What a part of TensorBoard's log holds, in order: the update and the summary's value."""
    for file in sorted((run_dir / "tensorboard" / part).iterdir()):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                yield event.step, value


def with_sample_and_base(home):
    """Puts into a directory what short runs start from: sample texts and a model of one layer."""
    flags = ["--dataset", "sample", "--limit", "40", "--output_dir", str(home / "data")]
    assert prep_dataset.main(flags) == 0
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=128)
    GPT2Model(config).built_now().save_pretrained(home / "base")
    return home


def two_updates(home, name, *flags):
    """Tunes a classifier on the data in `home` for two updates; returns train.py's exit code."""
    places = ["--dataset_dir", home / "data", "--output_dir", home / name]
    every = [*places, "--max_updates", 2, "--precision", "float32", "--strategy", "one", *flags]
    return train.main([str(flag) for flag in every])

"""Short runs of the tuner, ended in many ways, and what makes two of them the same run."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from script_runs import summaries

from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.objective import RightClass
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.tuner import Tuner
from gpt2_tuning.training.watching import MEASURED

CONFIG = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=16, initializer_range=0.2)
LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}
OPTIONS = TrainOptions(
    epochs=3, batch_size=4, checkpoint_steps=3, patience=None, monitor="val_accuracy"
)
STEPS = 8
"""In an epoch; checkpoints follow steps 3, 6, 8, 9, 12, 15, 16, 18, 21 and 24."""


def rows(count, seed):
    """Rows whose class is their first token."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 7, count)
    ids = [rng.integers(0, 3, 1).tolist() + rng.integers(3, 97, n).tolist() for n in lengths]
    return Records.of(ids, label=np.array([row[0] for row in ids], np.int32))


def make_tuner(
    run_dir,
    options=OPTIONS,
    lora=None,
    learning_rate=1e-2,
    train_rows=(30, 0),
    dtype="float32",
    source=BatchSource,
):
    keras.utils.set_random_seed(options.seed)
    model = GPT2Classifier(CONFIG, 3, lora=lora, dtype=dtype).built_now()
    if lora:
        model.freeze_all_but_lora()
    return Tuner(
        RightClass(model),
        source(rows(*train_rows), options.batch_size),
        source(rows(20, 1), options.batch_size),
        options,
        learning_rate,
        run_dir,
        make_strategy("one"),
    )


def state(tuner):
    return [np.asarray(variable.value) for variable in tuner.variables]


def without_measured(row):
    return {name: value for name, value in row.items() if name not in MEASURED}


def assert_same_run(one, other):
    """The same weights, those of the best epoch, and the same optimizer, seeds and figures."""
    assert all(np.array_equal(a, b) for a, b in zip(state(one), state(other), strict=True))
    assert one.progress.best_sha256 == other.progress.best_sha256
    first, second = (map(without_measured, tuner.progress.history) for tuner in (one, other))
    assert list(first) == list(second)


def before_call(owner, name, number, action):
    """Has `action` run just before the `number`-th call of a method, counted from 1."""
    method, calls = getattr(owner, name), itertools.count(1)

    def called(*arguments, **keywords):
        if next(calls) == number:
            action()
        return method(*arguments, **keywords)

    setattr(owner, name, called)


def die():
    raise KeyboardInterrupt


def killed_run(run_dir, part, call, number, resume=False, **arguments):
    """Trains until just before the `number`-th call of a part's method, such as a step; dies.

    `arguments` are those of `make_tuner`.
    """
    tuner = make_tuner(run_dir, **arguments)
    before_call(getattr(tuner, part), call, number, die)
    with pytest.raises(KeyboardInterrupt):
        tuner.fit(resume)


def points(run_dir):
    """The points of TensorBoard's charts, (update, value), by part and name, in the log's order."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for part in ("train", "validation"):
        for update, value in summaries(run_dir, part):
            point = (update, tf.make_ndarray(value.tensor).item())
            found.setdefault((part, value.tag), []).append(point)
    return found

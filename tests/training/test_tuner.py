"""The loop: it keeps the best weights, stops in time, and a resumed run is the same run."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

from gpt2_tuning.config import GPT2Config
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.training import checkpoint
from gpt2_tuning.training.options import TrainOptions
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.tuner import Tuner
from gpt2_tuning.training.watching import MEASURED

CONFIG = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=16, initializer_range=0.2)
LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}
OPTIONS = TrainOptions(epochs=3, batch_size=4, checkpoint_steps=3, patience=None)


def rows(count, seed):
    """Rows whose class is their first token."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 3, 1).tolist() + rng.integers(3, 97, 4).tolist() for _ in range(count)]
    return Records.of(ids, label=np.array([row[0] for row in ids], np.int32))


def make_tuner(run_dir, options=OPTIONS, lora=None, learning_rate=1e-2):
    keras.utils.set_random_seed(options.seed)
    model = GPT2Classifier(CONFIG, 3, lora=lora).built_now()
    if lora:
        model.freeze_all_but_lora()
    return Tuner(
        model,
        BatchSource(rows(30, 0), options.batch_size),
        BatchSource(rows(20, 1), options.batch_size),
        options,
        learning_rate,
        run_dir,
        make_strategy("one"),
        monitor="val_accuracy",
    )


def state(tuner):
    return [np.asarray(variable.value) for variable in tuner.variables]


def assert_same_run(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(state(one), state(other), strict=True))
    timing = MEASURED
    for a, b in zip(one.progress.history, other.progress.history, strict=True):
        assert {k: v for k, v in a.items() if k not in timing} == {
            k: v for k, v in b.items() if k not in timing
        }


@pytest.fixture(scope="module", params=[None, LORA], ids=["full", "lora"])
def whole(request, tmp_path_factory):
    """A run that nothing interrupts, and its LoRA."""
    tuner = make_tuner(tmp_path_factory.mktemp("whole"), lora=request.param)
    tuner.fit()
    return tuner, request.param


def killed_run(run_dir, steps, lora):
    """Trains until that many steps are done, then dies."""
    tuner = make_tuner(run_dir, lora=lora)
    train, calls = tuner.steps.train, []

    def train_until_killed(batch):
        calls.append(batch)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return train(batch)

    tuner.steps.train = train_until_killed
    with pytest.raises(KeyboardInterrupt):
        tuner.fit()


@pytest.mark.parametrize("killed_after", [5, 14], ids=["in epoch 1", "in epoch 2"])
def test_a_resumed_run_ends_bit_identical(whole, tmp_path, killed_after):
    """Killed inside an epoch, some steps after a checkpoint, with dropout on."""
    uninterrupted, lora = whole
    killed_run(tmp_path, killed_after, lora)
    resumed = make_tuner(tmp_path, lora=lora)
    resumed.fit(resume=True)
    assert_same_run(uninterrupted, resumed)


def test_a_run_killed_before_its_first_checkpoint_cannot_be_resumed(tmp_path):
    killed_run(tmp_path, 1, None)
    with pytest.raises(UserError, match="no checkpoint"):
        make_tuner(tmp_path).fit(resume=True)


def test_the_best_epoch_is_what_remains(whole):
    tuner, _ = whole
    best = tuner.progress.history[tuner.progress.best_epoch - 1]
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in tuner.progress.history)
    assert tuner.evaluate(tuner.validation)["accuracy"] == best["val_accuracy"]
    assert tuner.evaluate(tuner.validation)["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_training_stops_once_validation_no_longer_improves(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs=20, patience=1)
    tuner = make_tuner(tmp_path, options, learning_rate=1e-9)
    history = tuner.fit()
    assert len(history) == tuner.progress.best_epoch + 2


def test_overfits_what_it_can_see(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs=15)
    history = make_tuner(tmp_path, options).fit()
    assert history[-1]["accuracy"] > 0.95
    assert history[-1]["loss"] < history[0]["loss"] / 3


def test_metrics_csv_has_a_row_for_each_epoch(whole):
    tuner, _ = whole
    history = tuner.progress.history
    with (tuner.run_dir / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in written] == [row["val_loss"] for row in history]
    assert [row["epoch"] for row in written] == ["1", "2", "3"]


def test_two_checkpoints_are_kept_and_hold_no_frozen_weight(whole):
    tuner, lora = whole
    kept = checkpoint.checkpoints(tuner.checkpoints)
    assert [path.name for path in kept] == ["step-00000021", "step-00000024"]
    paths = {variable.path for variable in tuner.variables}
    assert any("wte" in path for path in paths) == (lora is None)
    assert any("seed" in path for path in paths)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    make_tuner(tmp_path).fit()
    other = make_tuner(tmp_path, lora=LORA)
    before = state(other)
    with pytest.raises(UserError, match="of another model"):
        other.fit(resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(other), strict=True))


def test_a_damaged_checkpoint_is_named(tmp_path):
    make_tuner(tmp_path).fit()
    newest = checkpoint.checkpoints(tmp_path / "checkpoints")[-1]
    (newest / checkpoint.PROGRESS_FILE).write_text(json.dumps({"epoch": 1})[:-3])
    with pytest.raises(UserError, match="step-00000024 cannot be used"):
        make_tuner(tmp_path).fit(resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    tuner = make_tuner(tmp_path)
    tuner.model.score.kernel.assign(np.full(tuner.model.score.kernel.shape, np.nan))
    with pytest.raises(UserError, match="not finite at step 1 of epoch 1"):
        tuner.fit()

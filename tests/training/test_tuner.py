"""The loop: it keeps the best weights, stops in time, and stops at what is not finite."""

import csv
import dataclasses

import numpy as np
import pytest
from tuner_runs import LORA, OPTIONS, before_call, make_tuner, state

from gpt2_tuning.errors import UserError
from gpt2_tuning.training import checkpoint_files


@pytest.fixture(scope="module", params=[None, LORA], ids=["full", "lora"])
def whole(request, tmp_path_factory):
    """A run that nothing interrupts, and its LoRA."""
    tuner = make_tuner(tmp_path_factory.mktemp("whole"), lora=request.param)
    tuner.fit()
    return tuner, request.param


def test_the_best_epoch_is_what_remains(whole):
    tuner, _ = whole
    best = tuner.progress.best_row()
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in tuner.progress.history)
    assert tuner.evaluate(tuner.validation)["accuracy"] == best["val_accuracy"]
    assert tuner.evaluate(tuner.validation)["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_training_stops_once_validation_no_longer_improves(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs=20, patience=1, checkpoint_steps=99)
    tuner = make_tuner(tmp_path, options, learning_rate=1e-9)
    history = tuner.fit()
    assert len(history) == tuner.progress.best + 2


@pytest.mark.slow
def test_overfits_what_it_can_see(tmp_path):
    options = dataclasses.replace(OPTIONS, epochs=15, checkpoint_steps=99)
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
    kept = checkpoint_files.found_in(tuner.checkpoints)
    assert [path.name for path in kept] == ["step-00000021", "step-00000024"]
    best = {checkpoint_files.read_content(path)["progress"]["best"] for path in kept}
    files = {f"best-{number:04d}.safetensors" for number in best}
    assert {path.name for path in tuner.checkpoints.iterdir()} - {"step-00000021"} == {
        "step-00000024",
        *files,
    }
    paths = {variable.path for variable in tuner.variables}
    assert any("tokens" in path for path in paths) == (lora is None)
    assert any("seed" in path for path in paths)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_batch(tmp_path):
    tuner = make_tuner(tmp_path)
    kernel = tuner.model.score.kernel
    # Step 13 of the run is the fifth of its second epoch; step 12 had a checkpoint.
    before_call(tuner.steps, "train", 13, lambda: kernel.assign(np.full(kernel.shape, np.nan)))
    examples = np.sort(tuner.train.plan(tuner.options.seed, 1)[4].rows)
    with pytest.raises(UserError, match=r"not finite at epoch 2, step 5") as caught:
        tuner.fit()
    assert f"examples {', '.join(map(str, examples))} (counted" in str(caught.value)
    assert "step-00000012 is from before" in str(caught.value)
    again = make_tuner(tmp_path)
    progress, path = again.store.restore()
    assert (path.name, progress.epoch, progress.step) == ("step-00000012", 1, 4)
    assert all(np.isfinite(value).all() for value in state(again))


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path):
    tuner = make_tuner(tmp_path)
    kernel = tuner.model.score.kernel
    before_call(tuner.steps, "evaluate", 1, lambda: kernel.assign(np.full(kernel.shape, np.nan)))
    with pytest.raises(UserError, match="validation loss is not finite after epoch 1"):
        tuner.fit()
    assert checkpoint_files.found_in(tuner.checkpoints)[-1].name == "step-00000006"
    assert not list(tuner.checkpoints.glob("best-*"))

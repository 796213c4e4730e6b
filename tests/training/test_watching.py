"""What is seen of a run: figures that are true, on a terminal, in a file and on disk."""

import contextlib
import csv
import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
from hostile import room_for
from script_runs import summaries
from tuner_runs import OPTIONS, STEPS, make_tuner, points

from gpt2_tuning.data.batches import PlannedBatch, classification_batch
from gpt2_tuning.models.device_choices import CPU, GPU, choosing
from gpt2_tuning.training import finishing, watching
from gpt2_tuning.training import tuner as tuner_module

FIGURES = {"learning_rate", "grad_norm", "tokens_per_second", "padding_share", "peak_memory_mb"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose output goes to a file, and that output."""
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as often:
        patch.setattr(watching, "LINE_SECONDS", 0.0)
        often.setattr(tuner_module, "DRAIN_EVERY", 1)
        tuner = make_tuner(tmp_path_factory.mktemp("run"))
        file = (tuner.run_dir / "log.txt").open("w")
        often.setattr("sys.stdout", file)
        tuner.fit()
        file.close()
    return tuner, (tuner.run_dir / "log.txt").read_text()


def test_every_figure_is_in_the_csv_and_is_true(run):
    tuner, _ = run
    with (tuner.run_dir / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    assert set(written[0]) >= FIGURES
    for epoch, row in enumerate(written):
        batches = list(tuner.train.epoch(tuner.options.seed, epoch))
        real, computed = (
            sum(getattr(batch, name) for batch in batches)
            for name in ("real_tokens", "computed_tokens")
        )
        assert float(row["padding_share"]) == pytest.approx(1 - real / computed)
        speed, seconds = float(row["tokens_per_second"]), float(row["seconds"])
        assert speed * seconds == pytest.approx(computed)
        assert 50 < float(row["peak_memory_mb"]) < 1e6
        assert float(row["grad_norm"]) > 0
    assert float(written[-1]["learning_rate"]) == pytest.approx(0, abs=1e-9)


def test_rows_that_parts_add_are_computed_and_padding(tmp_path):
    """Batches of 4 rows in 3 parts are computed as 6."""
    tuner = make_tuner(
        tmp_path, dataclasses.replace(OPTIONS, epochs=1, max_updates=2, gradient_accumulation=3)
    )
    (row,) = tuner.fit()
    batches = list(itertools.islice(tuner.train.epoch(0, 0), 2))
    real = sum(batch.real_tokens for batch in batches)
    computed = sum(batch.computed_tokens for batch in batches) * 6 / 4
    assert row["padding_share"] == pytest.approx(1 - real / computed)
    assert row["tokens_per_second"] * row["seconds"] == pytest.approx(computed)


def test_tensorboard_has_training_and_validation_in_one_chart(run):
    """Of training each update's own figures where each is logged, and no running mean."""
    tuner, _ = run
    found = points(tuner.run_dir)
    history = tuner.progress.history
    for name in FIGURES | {"loss", "accuracy"}:
        assert [update for update, _ in found["train", name]] == list(range(1, 3 * STEPS + 1))
    for name in ("loss", "accuracy"):
        assert [update for update, _ in found["validation", name]] == [STEPS, 2 * STEPS, 3 * STEPS]
        written = [value for _, value in found["validation", name]]
        np.testing.assert_allclose(written, [row[f"val_{name}"] for row in history], rtol=1e-6)
    for epoch, row in enumerate(history):
        norms = [norm for _, norm in found["train", "grad_norm"][epoch * STEPS :][:STEPS]]
        assert math.fsum(norms) / STEPS == pytest.approx(row["grad_norm"], rel=1e-5)


def test_tensorboard_has_the_result_at_the_update_at_which_the_run_stopped(tmp_path):
    """A run that learns nothing stops early, after two of its three epochs."""
    options = dataclasses.replace(OPTIONS, patience=0)
    tuner = make_tuner(tmp_path, options, learning_rate=1e-30)
    tuner.fit()
    (tmp_path / "README.md").write_text("")
    finishing.finish(tuner)
    found = {value.tag: update for update, value in summaries(tmp_path, "result")}
    assert found["best/val_loss"] == found["card"] == 2 * STEPS


def test_a_file_gets_plain_lines(run):
    _, text = run
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    compiled = [line for line in lines if line.startswith("compiling")]
    assert [line.split("… ")[0] for line in compiled] == [
        "compiling the training step",
        "compiling the evaluation step",
    ]
    assert all(re.fullmatch(r".*… \d+\.\d s", line) for line in compiled)
    assert lines[0] == compiled[0]
    lines = [line for line in lines if line not in compiled]
    assert lines[0].startswith("epoch 1/3  loss ")
    assert "step 1/8" in lines[0]
    assert lines[0].endswith(" left")
    assert len(lines) == 3 * STEPS + 3
    assert "step 8/8" in lines[-2]
    assert " 0:00:00 left" in lines[-2]
    assert lines[-1].startswith("epoch 3/3  loss ")


def test_a_run_by_updates_is_counted_in_updates(run, tmp_path, monkeypatch, capsys):
    tuner, _ = run
    monkeypatch.setattr(watching, "LINE_SECONDS", 0.0)
    watcher = watching.RunWatcher(tmp_path, 1500, STEPS, "update")
    watcher.begin(tuner.progress)
    watcher.advance(tuner.progress, {"loss": 1.0, "tokens_per_second": 1.0})
    assert capsys.readouterr().out.startswith("update 24/1500  loss 1.0000  1 tokens/s")
    watcher.end(tuner.progress)
    assert capsys.readouterr().out.startswith("update 24/1500  loss ")


def test_seldom_lines_do_not_fill_a_log(run, tmp_path, capsys):
    tuner, _ = run
    watcher = watching.RunWatcher(tmp_path, 3 * STEPS, STEPS)
    watcher.begin(tuner.progress)
    for _ in range(3):
        watcher.advance(tuner.progress, {"loss": 1.0, "tokens_per_second": 1.0})
    assert capsys.readouterr().out == ""


def test_what_is_compiled_is_said_before_it_ends(tmp_path, capsys):
    watcher = watching.RunWatcher(tmp_path, 3 * STEPS, STEPS)
    with watcher.compiling("training"):
        assert capsys.readouterr().out == "compiling the training step… "
    assert re.fullmatch(r"\d+\.\d s\n", capsys.readouterr().out)


def test_a_step_that_cannot_be_compiled_leaves_a_whole_line(tmp_path, capsys):
    watcher = watching.RunWatcher(tmp_path, 3 * STEPS, STEPS)
    with pytest.raises(ZeroDivisionError), watcher.compiling("training"):
        raise ZeroDivisionError
    assert capsys.readouterr().out == "compiling the training step… \n"


def test_compiling_is_no_part_of_the_time_that_is_left(tmp_path, monkeypatch):
    now = iter(range(0, 10**6, 100))
    watcher = watching.RunWatcher(tmp_path, 10, 10)
    watcher.first_step, watcher.started, watcher.clock = 0, 0.0, 104.0
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(now))
    with watcher.compiling("training"):
        pass
    assert watcher.compile_seconds == 100
    # Four seconds for three steps; without the step that was compiled, two.
    assert watcher.time_left(3) == "0:00:14"
    assert watcher.time_left(1) == "0:15:36"  # nothing else was seen yet


@pytest.mark.slow
@pytest.mark.parametrize("choices", [CPU, GPU], ids=["cpu", "gpu"])
def test_each_shape_is_compiled_and_none_twice(choices, tmp_path):
    with choosing(choices):
        tuner, compiled = make_tuner(tmp_path), []

    @contextlib.contextmanager
    def compiling(what):
        compiled.append(what)
        yield

    tuner.steps.compiling = compiling
    short, long = (
        classification_batch(tuner.train.records, PlannedBatch(np.arange(4), length), 4)
        for length in (8, 16)
    )
    with choosing(choices):
        for batch in (short, long, short, long):
            tuner.steps.train(batch)
        tuner.steps.evaluate(long)
    assert compiled == ["training", "training", "evaluation"]


@pytest.mark.parametrize(("choices", "lines"), [(CPU, 2), (GPU, 3)], ids=["cpu", "gpu"])
def test_on_a_cpu_only_the_first_shape_of_a_step_has_a_line(choices, lines, tmp_path, capsys):
    watcher = watching.RunWatcher(tmp_path, 3 * STEPS, STEPS)
    for what in ("training", "training", "evaluation"):
        with choosing(choices), watcher.compiling(what):
            pass
    assert len(capsys.readouterr().out.splitlines()) == lines
    assert watcher.compiled_steps == 2  # and none counts in the time that is left


def test_a_log_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    watcher = watching.RunWatcher(tmp_path, 3 * STEPS, STEPS)

    def log():
        for update in range(5000):
            watcher.log(update, {"loss": 1.0})

    with room_for(200), pytest.raises(OSError, match=r"TensorBoard's log: .* too large"):
        log()

"""Validations by epochs and by updates: when they come, which is the best, resumed or not."""

import dataclasses
from signal import SIGTERM

import pytest
from script_runs import metrics
from tuner_runs import (
    OPTIONS,
    STEPS,
    assert_same_run,
    before_call,
    killed_run,
    make_tuner,
    points,
)

from gpt2_tuning.interrupts import Stopped
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.progress import Progress
from gpt2_tuning.training.validations import Validations
from gpt2_tuning.training.watching import MEASURED

BY_UPDATES = dataclasses.replace(OPTIONS, max_updates=11, validate_every=3, checkpoint_steps=4)


def row(update, accuracy, loss):
    return {"epoch": update / STEPS, "update": update, "val_accuracy": accuracy, "val_loss": loss}


def after(rows, **changes):
    """The progress after these validations, each (val_accuracy, val_loss), and which were best."""
    options = dataclasses.replace(TrainOptions(patience=None), **changes)
    validations, progress = Validations(options, STEPS), Progress()
    return progress, [
        validations.record(progress, row(number * STEPS, *figures))
        for number, figures in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize(
    ("monitor", "rows", "best"),
    [
        ("val_accuracy", [(0.5, 1.0), (0.7, 2.0), (0.6, 0.5)], [True, True, False]),
        ("val_loss", [(0.5, 1.0), (0.7, 2.0), (0.6, 0.5)], [True, False, True]),
        ("val_accuracy", [(0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.5, 0.9)], [True, True, 0, 0]),
        ("val_loss", [(0.5, 1.0), (0.7, 1.0)], [True, False]),
    ],
    ids=["accuracy", "loss", "equals go to the lower loss", "and then to the earlier"],
)
def test_the_best_is_what_the_monitor_says(monitor, rows, best):
    progress, improved = after(rows, monitor=monitor)
    assert improved == best
    assert progress.best == max(number for number, is_best in enumerate(best, 1) if is_best)


@pytest.mark.parametrize(("patience", "stopped"), [(0, True), (1, True), (2, False)])
def test_patience_counts_validations(patience, stopped):
    progress, _ = after(
        [(0.5, 1.0), (0.6, 1.0), (0.5, 1.0), (0.5, 1.0)], patience=patience, monitor="val_accuracy"
    )
    assert progress.stopped == stopped


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, [8, 16, 24]),
        ({"validate_every": 5}, [5, 10, 15, 20, 24]),
        ({"max_updates": 18}, [8, 16, 18]),
        ({"max_updates": 30, "validate_every": 12}, [12, 24, 30]),
        ({"validate_every": 99}, [24]),
    ],
)
def test_a_run_is_validated_when_the_flags_say_and_at_its_end(flags, expected):
    validations = Validations(TrainOptions(epochs=3, patience=None, **flags), STEPS)
    progress = Progress()
    while not validations.finished(progress):
        validations.record(progress, row(validations.next_update(progress.history), 0.5, 1.0))
    assert [row["update"] for row in progress.history] == expected
    assert validations.updates == expected[-1]
    assert [validations.epochs(update) for update in (6, 8, 11)] == [0.75, 1, 1.375]


# --- killed ----------------------------------------------------------------------------------


def logged(tuner):
    """What TensorBoard shows, without what depends on the machine."""
    found = points(tuner.run_dir)
    return {name: chart for name, chart in found.items() if name[1] not in MEASURED}


@pytest.mark.slow
def test_a_run_by_updates_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    """Stopped in the second validation, killed before that is kept, and before the next one is.

    The last kill goes back to a checkpoint between the two.
    """
    whole = make_tuner(tmp_path / "whole", BY_UPDATES)
    whole.fit()
    run_dir, flags = tmp_path / "killed", {"options": BY_UPDATES}
    stopped = make_tuner(run_dir, BY_UPDATES)
    before_call(stopped.steps, "evaluate", 7, lambda: setattr(stopped.stop, "number", SIGTERM))
    with pytest.raises(Stopped, match="step-00000006 is saved"):
        stopped.fit()
    killed_run(run_dir, "store", "save", 1, resume=True, **flags)
    killed_run(run_dir, "store", "save", 3, resume=True, **flags)
    again = make_tuner(run_dir, BY_UPDATES)
    again.fit(resume=True)
    assert [row["update"] for row in again.progress.history] == [3, 6, 9, 11]
    assert [row["epoch"] for row in again.progress.history] == [0.375, 0.75, 1.125, 1.375]
    assert_same_run(whole, again)
    assert logged(whole) == logged(again)
    assert metrics(whole.run_dir) == metrics(run_dir)

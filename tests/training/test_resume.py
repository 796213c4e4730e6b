"""A run that was ended, however, goes on as if it had not been, or says why it cannot."""

import contextlib
import dataclasses
import itertools
import keyword
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile import Executioner, killed, room_for
from script_runs import metrics
from tuner_runs import (
    LORA,
    OPTIONS,
    assert_same_run,
    before_call,
    killed_run,
    make_tuner,
    state,
    without_measured,
)

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.interrupts import Stopped
from gpt2_tuning.options.training import ClassifierOptions, LanguageModelOptions, TrainOptions
from gpt2_tuning.runs import run_files
from gpt2_tuning.training import checkpoint_files, finishing, loss_scale, run_directory
from gpt2_tuning.training import tuner as loop

METADATA = Metadata("classification", {}, "", 8, ["label"], None, None, 0, {}, 0)
LAST = "step-00000024"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run that nothing interrupts; its directory is not to be changed."""
    tuner = make_tuner(tmp_path_factory.mktemp("full"))
    tuner.fit()
    return tuner


def resumed(run_dir, lora=None, **changes):
    tuner = make_tuner(run_dir, dataclasses.replace(OPTIONS, **changes), lora=lora)
    tuner.fit(resume=True)
    return tuner


def copy_of(tuner, tmp_path):
    return Path(shutil.copytree(tuner.run_dir, tmp_path / "copy"))


def newest(run_dir, place=-1):
    return checkpoint_files.found_in(run_dir / "checkpoints")[place]


def flip(path, offset=-20):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def files(run_dir):
    """The files of a run's checkpoints."""
    found = (run_dir / "checkpoints").rglob("*")
    return {str(path.relative_to(run_dir)) for path in found if path.is_file()}


def best_of(path):
    """The best weights that a checkpoint refers to, which may be those of others too."""
    best = checkpoint_files.read_content(path)["progress"]["best"]
    return checkpoint_files.best_file(path.parent, best)


# --- killed ----------------------------------------------------------------------------------


def test_a_resumed_run_ends_bit_identical(full, tmp_path):
    """Killed inside an epoch, two steps after a checkpoint, with dropout on."""
    killed_run(tmp_path, "steps", "train", 6)
    assert_same_run(full, resumed(tmp_path))


def test_a_resumed_lora_run_ends_bit_identical(tmp_path):
    """Killed in its second epoch; LoRA has a dropout of its own."""
    whole = make_tuner(tmp_path / "whole", lora=LORA)
    whole.fit()
    killed_run(tmp_path / "killed", "steps", "train", 15, lora=LORA)
    assert_same_run(whole, resumed(tmp_path / "killed", LORA))


@pytest.mark.slow
def test_a_resumed_float16_run_keeps_the_scale_that_its_overflows_left(tmp_path, monkeypatch):
    """It begins with a loss scale that overflows, and would leave steps out again without it."""
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**24)
    whole = make_tuner(tmp_path / "whole", dtype="mixed_float16")
    whole.fit()
    assert float(whole.steps.loss_scale.value) < loss_scale.FIRST
    killed_run(tmp_path / "killed", "steps", "train", 15, dtype="mixed_float16")
    again = make_tuner(tmp_path / "killed", dtype="mixed_float16")
    again.fit(resume=True)
    assert_same_run(whole, again)
    scales = [
        [float(variable) for variable in tuner.steps.loss_scale.variables]
        for tuner in (whole, again)
    ]
    assert scales[0] == scales[1]


def test_the_best_weights_are_those_of_the_checkpoint_resumed_from(full, tmp_path):
    """Killed at the second epoch's end, when the best weights are written and its end is not."""
    killed_run(tmp_path, "store", "save", 6)
    # Another interval saves at other steps and changes nothing else.
    assert_same_run(full, resumed(tmp_path, checkpoint_steps=5))


def as_by_an_older_version(path):
    """Makes a checkpoint what it was before runs were validated inside an epoch."""
    content = checkpoint_files.read_content(path)
    progress = content["progress"]
    progress["best_epoch"] = progress.pop("best")
    progress.pop("unlogged")
    progress["sums"].pop("updates", None)
    progress["history"] = [
        {name: row[name] for name in row if name != "update"} for row in progress["history"]
    ]
    for name in ("max_updates", "validate_every"):
        content["run"].pop(name)
    (path / checkpoint_files.PROGRESS_FILE).write_text(checkpoint_files.signed(content))


def test_a_run_of_an_older_version_goes_on_to_the_same_end(full, tmp_path):
    killed_run(tmp_path, "steps", "train", 15)
    as_by_an_older_version(newest(tmp_path))
    again = resumed(tmp_path)
    assert_same_run(full, again)
    assert metrics(full.run_dir) == metrics(tmp_path)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path, capsys):
    killed_run(tmp_path, "steps", "train", 1)
    killed_run(tmp_path, "steps", "train", 1, resume=True)
    assert "no checkpoint was written yet: starting from the beginning" in capsys.readouterr().out


def test_what_a_killed_process_had_begun_is_removed(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    for name in (".step-00000022", ".best-0003.safetensors"):
        leftover = run_dir / "checkpoints" / f"{name}.gpt2-tuning-abcd1234"
        (leftover / "new").mkdir(parents=True)
        (leftover / "new" / "half").write_text("half")
        (leftover / "gpt2-tuning-partial").touch()
    resumed(run_dir)
    assert not list((run_dir / "checkpoints").glob(".*"))


def test_only_checkpoints_by_their_exact_names_are_removed(full, tmp_path):
    """Neither what is named much like them, nor anything behind a link."""
    place, outside = copy_of(full, tmp_path) / "checkpoints", tmp_path / "outside"
    outside.mkdir()
    kept = ["step-notes", "step-00000001x", "best-plot.png", "best-0001.txt", ".notes", ".step-1.x"]
    for name in kept:
        (place / name).mkdir()
        (place / name / "mine").write_text("mine")
    for name in ("step-00000001", "best-0009.safetensors", ".step-00000002.gpt2-tuning-abcd1234"):
        (outside / name).mkdir()
        (outside / name / "mine").write_text("mine")
        (place / name).symlink_to(outside / name)
        kept.append(name)
    (place / "step-00000006").mkdir()
    (place / "step-00000006" / "progress.json").write_text("ours")
    (place / "step-00000006" / "mine").write_text("mine")
    resumed(place.parent)
    assert {path.parent.name for path in place.glob("*/mine")} == {*kept, "step-00000006"}
    assert len(list(outside.glob("*/mine"))) == 3
    assert not (place / "step-00000006" / "progress.json").exists()


def test_checkpoints_behind_a_link_are_refused(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    (run_dir / "checkpoints").rename(tmp_path / "elsewhere")
    (run_dir / "checkpoints").symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(UserError, match="checkpoints is a link"):
        resumed(run_dir)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def test_a_finished_run_says_so_and_its_metrics_are_whole_again(full, tmp_path, capsys):
    """Killed after its last step: what training leaves is there for what comes after it."""
    run_dir = copy_of(full, tmp_path)
    whole_metrics = (run_dir / "metrics.csv").read_text()
    (run_dir / "metrics.csv").write_text(whole_metrics[:100])
    tuner = resumed(run_dir)
    assert "the training was finished (step-00000024)" in capsys.readouterr().out
    assert (run_dir / "metrics.csv").read_text() == whole_metrics
    assert_same_run(full, tuner)


def test_killed_as_it_removes_checkpoints_a_finished_run_stays_finished(full, tmp_path):
    """Before any operation on a file; what is left goes the next time."""

    def keep_end(place, directory):
        sys.addaudithook(Executioner(place, directory))
        checkpoint_files.keep_end(directory)

    best = checkpoint_files.best_file(Path("checkpoints"), full.progress.best)
    expected = {f"checkpoints/{LAST}/progress.json", str(best)}
    tuner = make_tuner(tmp_path)
    for place in range(100):
        run_dir = shutil.copytree(full.run_dir, tmp_path / str(place))
        directory = tuner.store.directory = run_dir / "checkpoints"
        more = killed(lambda place=place, at=directory: keep_end(place, at))
        progress, path = tuner.store.restore()
        assert (progress, path.name) == (full.progress, LAST)
        tuner.store.load_best(progress)
        assert more or files(run_dir) == expected
        checkpoint_files.keep_end(directory)
        assert files(run_dir) == expected
        if not more:
            break
    assert place > 5


def test_what_a_finished_run_takes_on_disk_is_said(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    before = run_files.size_of(run_dir)
    assert finishing.disk_line(run_dir, keep_checkpoints=True).startswith("disk: ")
    assert run_files.size_of(run_dir) == before
    after = finishing.disk_line(run_dir, keep_checkpoints=False)
    size = run_files.size_of(run_dir)
    assert size < before / 2
    assert f"disk: {size / 1e6:.1f} MB; {(before - size) / 1e6:.1f} MB of checkpoints" in after


def test_a_finished_run_without_its_variables_is_resumed_and_its_metrics_are_whole(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    checkpoint_files.keep_end(run_dir / "checkpoints")
    (run_dir / "metrics.csv").unlink()
    again = resumed(run_dir)
    assert again.progress == full.progress
    weights = zip(full.model.weights, again.model.weights, strict=True)
    assert all(np.array_equal(one, other) for one, other in weights)
    assert metrics(full.run_dir) == metrics(run_dir)
    (run_dir / "checkpoints" / LAST / checkpoint_files.PROGRESS_FILE).write_text("{}")
    with pytest.raises(UserError, match=r"progress\.json is damaged"):
        resumed(run_dir)


# --- damaged ---------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over(full, tmp_path, capsys):
    run_dir = copy_of(full, tmp_path)
    flip(newest(run_dir) / checkpoint_files.ARRAYS_FILE)
    assert_same_run(full, resumed(run_dir))
    line = "warning: going back to step-00000021, as step-00000024: variables.safetensors is "
    assert capsys.readouterr().err == f"{line}missing or damaged\n"
    make_tuner(run_dir).store.read(newest(run_dir))  # written anew, and whole


DAMAGES = {
    "a bit of the variables": lambda path: flip(path / checkpoint_files.ARRAYS_FILE),
    "no variables": lambda path: (path / checkpoint_files.ARRAYS_FILE).unlink(),
    "a bit of the progress": lambda path: flip(path / checkpoint_files.PROGRESS_FILE, 900),
    "half a progress": lambda path: os.truncate(path / checkpoint_files.PROGRESS_FILE, 300),
    "nothing at all": lambda path: [file.unlink() for file in path.iterdir()],
    "a bit of the best weights": lambda path: flip(best_of(path), -int(path.name[-2:])),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_any_damage_is_noticed_and_none_is_used(full, tmp_path, damage):
    run_dir = copy_of(full, tmp_path)
    for place in (-1, -2):
        damage(newest(run_dir, place))
    tuner = make_tuner(run_dir)
    before = state(tuner)
    with pytest.raises(UserError, match=r"step-00000024: .*; step-00000021: .*--overwrite"):
        tuner.fit(resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(tuner), strict=True))


def test_what_a_kill_after_the_last_checkpoint_left_is_removed(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    kept = [path.name for path in checkpoint_files.found_in(run_dir / "checkpoints")]
    shutil.copytree(newest(run_dir, -2), run_dir / "checkpoints" / "step-00000018")
    make_tuner(run_dir).fit(resume=True)
    assert [path.name for path in checkpoint_files.found_in(run_dir / "checkpoints")] == kept


def test_lost_checkpoints_are_an_error(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    shutil.rmtree(run_dir / "checkpoints")
    with pytest.raises(UserError, match="has lost its checkpoints"):
        resumed(run_dir)


def test_checkpoints_deleted_in_mid_run_come_again(full, tmp_path):
    tuner = make_tuner(tmp_path)
    before_call(tuner.steps, "train", 5, lambda: shutil.rmtree(tuner.checkpoints))
    tuner.fit()
    assert_same_run(full, tuner)


def test_best_weights_deleted_in_mid_run_are_an_error(full, tmp_path):
    run_dir = copy_of(full, tmp_path)
    tuner = make_tuner(run_dir)
    before_call(tuner.store, "load_best", 1, lambda: shutil.rmtree(tuner.checkpoints))
    with pytest.raises(UserError, match=r"the best weights, .* are missing or damaged"):
        tuner.fit(resume=True)


@pytest.mark.parametrize(
    ("name", "number", "whole"), [("save", 4, "step-00000008"), ("save_best", 1, "step-00000006")]
)
def test_a_full_disk_leaves_the_checkpoints_before_it(tmp_path, name, number, whole):
    """The fourth checkpoint is the first of epoch 2; the best weights come before the third."""
    tuner = make_tuner(tmp_path)
    with contextlib.ExitStack() as full_disk:
        before_call(tuner.store, name, number, lambda: full_disk.enter_context(room_for(100_000)))
        message = rf"cannot write the checkpoint .* too large.*; {whole} is left to --resume from"
        with pytest.raises(UserError, match=message):
            tuner.fit()
    assert make_tuner(tmp_path).store.restore()[1].name == whole
    assert not list(tuner.checkpoints.glob(".*"))


# --- another run -----------------------------------------------------------------------------


OTHERS = {
    "learning_rate": {"learning_rate": 2e-2},
    "seed": {"options": dataclasses.replace(OPTIONS, seed=1)},
    "epochs": {"options": dataclasses.replace(OPTIONS, epochs=4)},
    "train split": {"train_rows": (30, 5)},
    "frozen weights": {"lora": LORA},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(full, tmp_path, name):
    tuner = make_tuner(copy_of(full, tmp_path), **OTHERS[name])
    before = state(tuner)
    with pytest.raises(UserError, match=f"is of another run: its {name} is"):
        tuner.fit(resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(tuner), strict=True))


def begin(run_dir, options):
    """What a run begins with."""
    options = dataclasses.replace(options, output_dir=run_dir)
    with run_directory.begun(run_dir, options, METADATA):
        pass


def changed(value):
    """A flag's value, and another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {None: 7, (): ("x",)}.get(value, "other")


@pytest.mark.parametrize("options_class", [ClassifierOptions, LanguageModelOptions])
def test_only_flags_that_do_not_alter_the_run_may_change(tmp_path, options_class):
    """Each flag of train.py, those to come included, is refused by name unless it is listed."""
    options = options_class()
    begin(tmp_path / "run", options)
    for name in run_directory.as_settings(options):
        field = f"{name}_" if keyword.iskeyword(name) else name
        other = dataclasses.replace(options, **{field: changed(getattr(options, field))})
        if name in run_directory.MAY_CHANGE:
            run_directory.check_same_run(tmp_path / "run", other, METADATA)
        else:
            with pytest.raises(UserError, match=f"was started with --{name} "):
                run_directory.check_same_run(tmp_path / "run", other, METADATA)


def test_options_of_an_older_version_are_those_of_the_defaults(tmp_path):
    begin(tmp_path / "run", OPTIONS)
    file = tmp_path / "run" / "options.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(run_directory.ADDED)))
    older = dataclasses.replace(OPTIONS, monitor=TrainOptions.monitor)
    run_directory.check_same_run(tmp_path / "run", older, METADATA)
    for name, value in (("validate_every", 3), ("max_updates", 9), ("monitor", "val_accuracy")):
        other = dataclasses.replace(older, **{name: value})
        with pytest.raises(UserError, match=f"was started with --{name} "):
            run_directory.check_same_run(tmp_path / "run", other, METADATA)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "holds no settings"),
        (
            lambda text: text[: len(text) // 2].rsplit("\n", 1)[0],
            "lacks .*: it is damaged or of an",
        ),
        (lambda text: text.replace("epochs: 3", "epochs: ["), "cannot read .*options.yaml"),
        (lambda text: text.replace("epochs: 3", "epochs: 4"), "started with --epochs 4, not 3"),
    ],
)
def test_damaged_options_are_an_error(tmp_path, damage, message):
    begin(tmp_path / "run", OPTIONS)
    file = tmp_path / "run" / "options.yaml"
    file.write_text(damage(file.read_text()))
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        run_directory.check_same_run(tmp_path / "run", OPTIONS, METADATA)


@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_a_directory_that_cannot_be_written_to_is_refused_at_once(tmp_path, monkeypatch, kind):
    options = dataclasses.replace(OPTIONS, output_dir=tmp_path / "new" / "run")
    if kind == "below a file":
        (tmp_path / "new").write_text("a file")
    else:  # root may write wherever the file system lets it
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot write to"):
        run_directory.check_run_dir("classification", options, METADATA)


# --- asked to stop ---------------------------------------------------------------------------


def send(*numbers):
    def kill():
        for number in numbers:
            os.kill(os.getpid(), number)

    return kill


@pytest.mark.parametrize(
    ("number", "call", "place", "saved"),
    [
        (signal.SIGTERM, "train", 5, "step-00000005"),
        (signal.SIGINT, "evaluate", 7, "step-00000016"),  # the second of the second validation
    ],
    ids=["SIGTERM in a step", "Ctrl-C in validation"],
)
@pytest.mark.usefixtures("plain_handlers")
def test_a_signal_saves_a_checkpoint_to_go_on_from(full, tmp_path, number, call, place, saved):
    tuner = make_tuner(tmp_path)
    before_call(tuner.steps, call, place, send(number))
    with pytest.raises(Stopped, match=f"{saved} is saved; the same flags and --resume") as caught:
        tuner.fit()
    assert caught.value.code == 128 + number
    assert newest(tmp_path).name == saved
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_run(full, resumed(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("silent", "number", "saved"),
    [(4, signal.SIGTERM, "step-00000005"), (9, signal.SIGINT, "step-00000008"), (39, 15, LAST)],
    ids=["in a step", "in validation", "after the last epoch"],
)
@pytest.mark.usefixtures("plain_handlers")
def test_workers_stop_by_what_all_of_them_say(full, tmp_path, monkeypatch, silent, number, saved):
    """Not by their own signal, which the others do not know of; none leaves before it is saved.

    The others say nothing so many times: there are 8 steps and 5 validation batches in an epoch.
    """
    said = itertools.chain(itertools.repeat(0, silent), itertools.repeat(number))
    monkeypatch.setattr(loop, "said_by_all", lambda strategy, own: [0, next(said)])
    left = []
    monkeypatch.setattr(loop, "wait_for_all", lambda strategy: left.append(newest(tmp_path).name))
    tuner = make_tuner(tmp_path)
    before_call(tuner.steps, "train", 2, send(signal.SIGINT))
    with pytest.raises(Stopped, match=f"{saved} is saved") as caught:
        tuner.fit()
    assert caught.value.code == 128 + number
    assert left[-1] == newest(tmp_path).name == saved
    monkeypatch.undo()
    assert_same_run(full, resumed(tmp_path))


@pytest.mark.usefixtures("plain_handlers")
def test_a_signal_while_the_first_step_is_built_is_not_waited_with(full, tmp_path):
    tuner = make_tuner(tmp_path)
    before_call(tuner.steps, "_sums", 1, send(signal.SIGTERM))
    with pytest.raises(Stopped, match="terminated before the first update") as caught:
        tuner.fit()
    assert caught.value.code == 143
    assert not list(tuner.checkpoints.glob("*"))
    assert_same_run(full, resumed(tmp_path))


@pytest.mark.usefixtures("plain_handlers")
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    tuner = make_tuner(tmp_path)
    before_call(tuner.steps, "train", 2, send(signal.SIGINT))
    before_call(tuner, "drain", 1, send(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        tuner.fit()
    assert not isinstance(caught.value, Stopped)
    assert not list(tuner.checkpoints.glob("*"))


@pytest.mark.usefixtures("plain_handlers")
def test_signals_that_were_to_be_ignored_are(full, tmp_path):
    """As under nohup, or in the background of a shell without job control."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_dir = copy_of(full, tmp_path)
    tuner = make_tuner(run_dir)
    before_call(tuner, "restore", 1, send(signal.SIGINT))
    tuner.fit(resume=True)
    assert without_measured(tuner.progress.history[-1]) == without_measured(
        full.progress.history[-1]
    )

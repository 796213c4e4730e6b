"""A run's directory is one process's alone, and nothing goes that no run wrote."""

import concurrent.futures
import fcntl
import os
import shutil
import sys
import threading

import pytest
from hostile import Executioner, killed, no_locks
from prepared_sets import ROWS, header

from gpt2_tuning import paths
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs import run_files
from gpt2_tuning.training import run_directory

METADATA = header(splits={name: {"files": []} for name in ROWS})
OLD = {
    "README.md": "card",
    "adapter/adapter_config.json": "old",
    "adapter/adapter_model.safetensors": "old",
    "base/config.json": "old",
    "checkpoints/best-0001.safetensors": "old",
    "checkpoints/step-00000010/.progress.json.partial": "old",
    "checkpoints/step-00000010/progress.json": "old",
    "checkpoints/step-00000010/variables.safetensors": "old",
    "calibration_validation.png": "old",
    "confusion.png": "old",
    "confusion_test.png": "old",
    "metrics.csv": "old",
    "tensorboard/events.out.tfevents.1.host": "old",
    "tensorboard/result/events.out.tfevents.1.host": "old",
    "tensorboard/train/events.out.tfevents.1.host": "old",
    "tensorboard/validation/events.out.tfevents.1.host": "old",
}


def options(run_dir, **changes):
    return ClassifierOptions(output_dir=run_dir, **changes)


def begun(run_dir, **changes):
    """What a training does before its first step: looks, then makes the directory."""
    wanted = options(run_dir, **changes)
    found = run_directory.check_run_dir("classification", wanted, METADATA)
    return run_directory.begun(found, wanted, METADATA)


def begin(run_dir, **changes):
    with begun(run_dir, **changes):
        pass


def add(run_dir, files):
    for name, text in files.items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text(text)


def finish_epoch(run_dir):
    """What the tuner does at the end of the first epoch."""
    add(run_dir, {"checkpoints/step-00000001/progress.json": "new"})
    add(run_dir, {"checkpoints/best-0001.safetensors": "new"})
    run_files.drop_aside(run_dir)


@pytest.fixture
def old_run(tmp_path):
    """A finished run of epochs 3."""
    begin(tmp_path / "run")
    add(tmp_path / "run", OLD)
    return tmp_path / "run"


def files(directory):
    """Every file and link below a directory, with what it holds."""
    return {
        str(path.relative_to(directory)): os.readlink(path)
        if path.is_symlink()
        else path.read_text()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def settings(run_dir):
    return run_directory.read_settings(run_dir)


# --- overwriting -----------------------------------------------------------------------------


FOREIGN = {
    "a file": "notes.txt",
    "a hidden file": ".notes",
    "among the checkpoints": "checkpoints/step-notes",
    "in a checkpoint": "checkpoints/step-00000010/notes.txt",
    "beside the adapter": "adapter/notes.txt",
    "in TensorBoard's folder": "tensorboard/notes.txt",
    "in a folder of one's own": "mine/notes.txt",
    "in a seed's run": "seed-1/notes.txt",
    "a picture of one's own": "holiday.png",
    "where a folder of ours should be": "model",
    "where a file of ours should be": "test.json/notes.txt",
}


@pytest.mark.parametrize("name", FOREIGN.values(), ids=FOREIGN)
def test_overwrite_refuses_what_no_run_wrote_and_names_it(old_run, name):
    add(old_run, {name: "mine"})
    before = files(old_run.parent)
    wanted = name.removesuffix("/notes.txt") if name.startswith(("mine", "test")) else name
    with pytest.raises(UserError, match=rf"run holds {wanted}, which no run wrote.*--overwrite"):
        begin(old_run, overwrite=True)
    assert files(old_run.parent) == before


@pytest.mark.parametrize("flags", [{}, {"seeds": 2}])
def test_overwrite_takes_for_a_seeds_run_only_what_is_one(tmp_path, flags):
    begin(tmp_path / "run", **flags)
    if flags:
        (tmp_path / "run" / "seed-0").mkdir()  # of a process that was killed just then
        add(tmp_path / "run", {"seed-1/confusion.png": "mine"})
    else:
        begin(tmp_path / "run" / "seed-1")
    before = files(tmp_path)
    with pytest.raises(UserError, match="run holds seed-1, which no run wrote"):
        begin(tmp_path / "run", overwrite=True, **flags)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["notes", "checkpoints/step-00000011", "metrics.csv"])
def test_overwrite_refuses_links(old_run, name):
    (old_run / name).unlink(missing_ok=True)
    (old_run / name).symlink_to(old_run.parent)
    before = files(old_run)
    with pytest.raises(UserError, match=rf"run holds {name}, which no run wrote"):
        begin(old_run, overwrite=True)
    assert files(old_run) == before


@pytest.mark.parametrize(
    "content",
    [
        {"options.yaml": "name: theirs\n"},
        {"options.yaml": "name: theirs\n", "metadata.json": '{"schema_version": 1}'},
        {"options.yaml": "model_size: tiny\nepochs: 1\nseed: 0\n"},
        {"metadata.json": METADATA.to_json()},
        {"checkpoints/step-00000001/progress.json": ""},
    ],
)
def test_overwrite_takes_for_a_run_only_what_has_both_our_files(tmp_path, content):
    add(tmp_path / "run", content)
    with pytest.raises(UserError, match="is not a run, so --overwrite leaves it alone"):
        begin(tmp_path / "run", overwrite=True)
    assert files(tmp_path / "run") == content


def test_an_overwritten_run_goes_with_the_first_epoch_of_the_new_one(old_run):
    with begun(old_run, overwrite=True, epochs=7):
        assert settings(old_run)["epochs"] == 7
        assert files(old_run / ".replaced").items() >= OLD.items()
        finish_epoch(old_run)
        assert not (old_run / ".replaced").exists()
    assert set(files(old_run)) == {
        "checkpoints/best-0001.safetensors",
        "checkpoints/step-00000001/progress.json",
        "metadata.json",
        "options.yaml",
    }


def test_an_overwritten_run_comes_back_when_the_new_one_fails_before_that(old_run, capsys):
    before = files(old_run)
    new = {"tensorboard/events.out.tfevents.2.host": "new", "base/config.json": "new"}
    with pytest.raises(IsADirectoryError), begun(old_run, overwrite=True, epochs=7):
        add(old_run, {**new, "base": "fails"})
    assert files(old_run) == before
    assert "holds the run again that was to be overwritten" in capsys.readouterr().err


def test_what_came_into_a_run_meanwhile_stays_whatever_becomes_of_it(old_run):
    """The user's files in the new run, and in the old one that was set aside."""
    mine = {"notes.txt": "mine", "checkpoints/notes.txt": "mine", "mine/notes.txt": "mine"}
    with pytest.raises(IsADirectoryError), begun(old_run, overwrite=True, epochs=7):
        add(old_run, {**mine, "mine": "fails"})
    assert files(old_run).items() >= {**OLD, **mine}.items()
    for name in ("notes.txt", "checkpoints/notes.txt", "mine/notes.txt"):
        (old_run / name).unlink()
    (old_run / "mine").rmdir()
    with begun(old_run, overwrite=True, epochs=7):
        add(old_run / ".replaced", mine)
        (old_run / ".replaced" / "link").symlink_to(old_run.parent)
        finish_epoch(old_run)
    assert set(files(old_run / ".replaced")) == {*mine, "link"}


def test_an_empty_directory_of_a_users_stays_however_old_it_is(old_run):
    def fail():
        (old_run / "mine").mkdir()
        os.utime(old_run / "mine", (0, 0))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), begun(old_run, overwrite=True, epochs=7):
        fail()
    assert (old_run / "mine").is_dir()


def test_a_run_stopped_in_its_first_epoch_keeps_the_older_one_for_the_next(old_run):
    """Its checkpoint is something to go on from, but no model."""
    with begun(old_run, overwrite=True, epochs=7):
        add(old_run, {"checkpoints/step-00000001/progress.json": "new"})
    assert files(old_run / ".replaced").items() >= OLD.items()
    with begun(old_run, overwrite=True, epochs=8):
        assert files(old_run / ".replaced").items() >= OLD.items()


def test_a_run_of_several_seeds_is_not_overwritten_while_one_trains(tmp_path):
    begin(tmp_path / "run", seeds=2)
    begin(tmp_path / "run" / "seed-0")
    before = files(tmp_path)
    with begun(tmp_path / "run" / "seed-0", resume=True):
        with pytest.raises(UserError, match="another process is training a seed of"):
            begin(tmp_path / "run", overwrite=True, seeds=2)
        assert files(tmp_path) == before
    begin(tmp_path / "run", overwrite=True, seeds=2)


@pytest.mark.parametrize("name", ["adapter", "base", "model", "tensorboard"])
def test_a_resumed_run_refuses_links_in_place_of_its_directories(old_run, name):
    (old_run / name).rename(old_run.parent / "there") if (old_run / name).exists() else None
    (old_run / name).symlink_to(old_run.parent / "there")
    with pytest.raises(UserError, match=f"{name} is a link"):
        begin(old_run, resume=True)


def test_a_run_that_was_killed_before_its_first_checkpoint_may_be_overwritten(old_run):
    """What it had set aside stays until there is a checkpoint."""
    killed(lambda: begin(old_run, overwrite=True, epochs=7), after=lambda: os._exit(0))
    with begun(old_run, overwrite=True, epochs=8):
        assert settings(old_run)["epochs"] == 8
        assert files(old_run / ".replaced").items() >= OLD.items()
        finish_epoch(old_run)
    assert not (old_run / ".replaced").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True], ids=["begins", "fails and goes back"])
def test_killed_at_any_moment_the_old_run_is_whole_or_set_aside_whole(old_run, tmp_path, fails):
    def overwrite(place, run_dir):
        sys.addaudithook(Executioner(place, run_dir))
        with begun(run_dir, overwrite=True, epochs=7):
            if fails:
                raise ZeroDivisionError

    before = files(old_run)
    for place in range(1000):
        run_dir = shutil.copytree(old_run, tmp_path / f"killed-{place}")
        more = killed(lambda run_dir=run_dir, place=place: overwrite(place, run_dir))
        if (run_dir / "options.yaml").exists() and settings(run_dir)["epochs"] == 7:
            assert files(run_dir / ".replaced") == before
        else:  # the next start puts all in its place
            with pytest.raises(UserError, match="exists: use --resume, --overwrite"):
                begin(run_dir)
            added = files(run_dir).items() - before.items()
            assert files(run_dir).items() >= before.items()
            assert all("partial" in name for name, _ in added)
        with begun(run_dir, overwrite=True, epochs=9):
            finish_epoch(run_dir)
        assert len(files(run_dir)) == 4
        if not more:
            break
    assert place > 15


def test_a_run_that_was_killed_as_it_began_can_be_begun(tmp_path):
    def start(place, run_dir):
        sys.addaudithook(Executioner(place, run_dir))
        begin(run_dir)

    for place in range(100):
        run_dir = tmp_path / f"killed-{place}"
        more = killed(lambda run_dir=run_dir, place=place: start(place, run_dir))
        if not (run_dir / "options.yaml").exists():
            begin(run_dir)
        assert set(files(run_dir)) == {"metadata.json", "options.yaml"}
        if not more:
            break
    assert place > 3


# --- at the same time ------------------------------------------------------------------------


def together(count, enter):
    """Has so many threads begin at once and stay inside until all have tried.

    Returns the directories of those that came in, and the messages of the others.
    """
    ready, tried = threading.Barrier(count, timeout=60), threading.Barrier(count, timeout=60)

    def attempt(number):
        ready.wait()
        try:
            with enter() as run_dir:
                tried.wait()
                return run_dir
        except Exception as error:
            tried.wait()
            return error

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        results = list(pool.map(attempt, range(count)))
    refused = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(error, UserError) for error in refused), refused
    inside = [result for result in results if not isinstance(result, Exception)]
    return inside, list(map(str, refused))


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_of_several_that_begin_in_one_directory_one_goes_on(tmp_path, monkeypatch, capsys, locks):
    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    for number in range(20):
        run_dir = tmp_path / str(number)
        if number % 2:
            run_dir.mkdir()
        inside, refused = together(6, lambda run_dir=run_dir: begun(run_dir))
        assert inside == [run_dir]
        assert all("another process is training" in line or "exists" in line for line in refused)
        assert set(files(run_dir)) == {"metadata.json", "options.yaml"}
    notes = capsys.readouterr().err.count("is on a file system without locks")
    assert notes == 0 if locks else notes >= 20


def test_of_several_that_overwrite_one_run_one_goes_on(old_run):
    for _ in range(20):
        inside, refused = together(6, lambda: begun(old_run, overwrite=True))
        assert len(inside) == 1
        assert all("another process is training" in line for line in refused)


def test_default_names_of_one_second_are_different(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "run_dir", lambda task, name: tmp_path / task / name)
    monkeypatch.setattr(run_directory, "default_name", lambda options: "124M-full-20260102-030405")
    inside, refused = together(6, lambda: begun(None))
    assert not refused
    names = sorted(path.name.removeprefix("124M-full-20260102-030405") for path in inside)
    assert names == ["", "-2", "-3", "-4", "-5", "-6"]


@pytest.mark.parametrize(
    ("pretrained", "name"),
    [(None, "355M"), ("none", "355M"), ("me/my-gpt2", "my-gpt2"), ("models/small/", "small")],
)
def test_a_default_name_says_no_size_of_a_checkpoint_that_has_its_own(pretrained, name):
    flags = options(None, model_size="355M", pretrained=pretrained)
    assert run_directory.default_name(flags).startswith(f"{name}-lora8-")


def test_nobody_else_may_use_a_run_under_way(old_run):
    """Nor one of several seeds, whose parent is locked as a whole."""
    with begun(old_run, resume=True):
        begin(old_run / "seed-0")
        for changes in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match="another process is training in"):
                begin(old_run, **changes)
    begin(old_run, resume=True)


def test_a_directory_that_appeared_meanwhile_is_not_replaced(tmp_path):
    """Between the look at it and the first write: the model was loaded meanwhile."""
    waiting = begun(tmp_path / "run")
    add(tmp_path / "run", {"notes.txt": "mine"})
    with pytest.raises(UserError, match="exists: use"):
        waiting.__enter__()
    assert files(tmp_path) == {"run/notes.txt": "mine"}


def test_a_run_behind_a_link_is_begun_and_overwritten_there(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    begin(tmp_path / "link")
    add(tmp_path / "there", OLD)
    with begun(tmp_path / "link", overwrite=True, epochs=7):
        finish_epoch(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert settings(tmp_path / "there")["epochs"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]

"""Directories are whole or not there, whatever becomes of the processes that write them."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
from hostile import no_locks, room_for
from safetensors.numpy import save_file

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import (
    atomic_directory,
    atomic_file,
    files_named,
    remove_leftovers,
)
from gpt2_tuning.locks import in_use

FOREIGN = files_named("one", "two")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def leftover(parent, name, number=0, **parts):
    """What a killed process left of a directory or file: a file in `new` or `old`."""
    workplace = parent / f".{name}.gpt2-tuning-abcd123{number}"
    workplace.mkdir()
    (workplace / "gpt2-tuning-partial").touch()
    for part, file in parts.items():
        (workplace / part).mkdir()
        (workplace / part / file).write_text(file)
    return workplace


def test_what_killed_processes_left_is_removed_and_others_work_is_not(tmp_path):
    left, used = leftover(tmp_path, "data", new="half"), leftover(tmp_path, "data", 1, new="half")
    (tmp_path / ".data.gpt2-tuning-0000_000").mkdir()
    os.utime(tmp_path / ".data.gpt2-tuning-0000_000", (0, 0))
    begun = tmp_path / ".data.gpt2-tuning-00000000"  # by a process that is about to mark it
    begun.mkdir()
    other = leftover(tmp_path, "database")
    with in_use(used), atomic_directory(tmp_path / "data", FOREIGN):
        assert not left.exists()
    assert names(tmp_path) == [begun.name, used.name, other.name, "data"]
    begun.rmdir()
    remove_leftovers(tmp_path / "data")
    assert names(tmp_path) == [other.name, "data"]


@pytest.mark.parametrize("write", [atomic_directory, lambda path, _: atomic_file(path)])
def test_what_is_only_named_like_our_leftovers_stays(tmp_path, write):
    """The mark tells, and that nothing else is there."""
    marked = leftover(tmp_path, "data", new="half")
    (marked / "mine").write_text("mine")
    linked = leftover(tmp_path, "data", 1)
    (linked / "new").symlink_to(tmp_path)
    for name in (".data.20251126", ".data.abcd1234", ".data.gpt2-tuning-20251126"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / ".data.gpt2-tuning-link0001").symlink_to(leftover(tmp_path, "other"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ZeroDivisionError), write(tmp_path / "data", FOREIGN):
        raise ZeroDivisionError
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_was_being_replaced_comes_back(tmp_path):
    """Killed between the two renames, and then the next attempt fails."""
    leftover(tmp_path, "data", new="half", old="old")
    with pytest.raises(ZeroDivisionError), atomic_directory(tmp_path / "data", FOREIGN):
        raise ZeroDivisionError
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["old"]


def test_what_comes_into_a_directory_that_is_being_replaced_stays(tmp_path):
    """The user's file came after the directory was looked at."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").touch()
    replacing = atomic_directory(tmp_path / "data", FOREIGN)
    with pytest.raises(UserError, match=r"data holds mine, which would be removed"), replacing:
        (tmp_path / "data" / "mine").write_text("mine")
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["mine", "one"]


@pytest.mark.parametrize(
    "make", [Path.touch, Path.mkdir, lambda path: path.symlink_to(path.parent)]
)
def test_nothing_but_files_of_our_names_is_replaced(tmp_path, make):
    """Also not a directory or a link that has the name of one of our files."""
    (tmp_path / "data").mkdir()
    name = "mine" if make is Path.touch else "one"
    make(tmp_path / "data" / name)
    with pytest.raises(UserError, match=f"data holds {name}, which would be removed"):
        atomic_directory(tmp_path / "data", FOREIGN).__enter__()
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == [name]


def test_the_directory_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "place" / "data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "place" / "data")
    with atomic_directory(tmp_path / "link", FOREIGN) as partial:
        (partial / "one").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "place" / "data") == ["one"]
    assert names(tmp_path) == ["elsewhere", "link", "place"]
    assert names(tmp_path / "place") == ["data"]


def test_two_processes_write_one_directory_one_after_the_other(tmp_path):
    one, two = (atomic_directory(tmp_path / "data", FOREIGN) for _ in range(2))
    with one as first, two as second:
        (first / "one").touch()
        (second / "two").touch()
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["one"]


def test_without_locks_files_are_written_and_others_leftovers_left(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = leftover(tmp_path, "data", new="half")
    with atomic_directory(tmp_path / "data", FOREIGN) as partial:
        (partial / "one").touch()
    assert names(tmp_path) == [left.name, "data"]
    with in_use(tmp_path) as locked:
        assert not locked


def test_a_full_disk_is_the_systems_error_and_leaves_what_was_there(tmp_path):
    """safetensors has an error of its own for it, which no script would take for the user's."""
    (tmp_path / "model").mkdir()

    def write():
        with atomic_directory(tmp_path / "model", FOREIGN) as partial:
            save_file({"weight": np.zeros(1000)}, partial / "model.safetensors")

    with room_for(1000), pytest.raises(OSError, match=r"cannot write .*model: .* too large"):
        write()
    assert names(tmp_path) == ["model"]

"""Directories are whole or not there, whatever becomes of the processes that write them."""

import numpy as np
import pytest
from hostile import room_for
from safetensors.numpy import save_file

from gpt2_tuning.files import atomic_directory, in_use


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_killed_processes_left_is_removed_and_others_work_is_not(tmp_path):
    for name in (".data.abcd1234", ".data.0000_000.replaced", ".data.keep", ".database.abcd1234"):
        (tmp_path / name).mkdir()
    with in_use(tmp_path / ".data.abcd1234"), atomic_directory(tmp_path / "data"):
        pass
    assert names(tmp_path) == [".data.abcd1234", ".data.keep", ".database.abcd1234", "data"]
    with atomic_directory(tmp_path / "data"):
        pass
    assert names(tmp_path) == [".data.keep", ".database.abcd1234", "data"]


def test_a_directory_that_was_being_replaced_comes_back(tmp_path):
    """Killed between the two renames, and then the next attempt fails."""
    (tmp_path / ".data.abcd1234.replaced").mkdir()
    (tmp_path / ".data.abcd1234.replaced" / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_directory(tmp_path / "data"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["old"]


def test_two_processes_write_one_directory_one_after_the_other(tmp_path):
    with atomic_directory(tmp_path / "data") as one, atomic_directory(tmp_path / "data") as two:
        (one / "one").touch()
        (two / "two").touch()
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["one"]


def test_a_full_disk_is_the_systems_error_and_leaves_what_was_there(tmp_path):
    """safetensors has an error of its own for it, which no script would take for the user's."""
    (tmp_path / "model").mkdir()

    def write():
        with atomic_directory(tmp_path / "model") as partial:
            save_file({"weight": np.zeros(1000)}, partial / "model.safetensors")

    with room_for(1000), pytest.raises(OSError, match=r"cannot write .*model: .* too large"):
        write()
    assert names(tmp_path) == ["model"]

"""What was compiled serves the next process, and nothing but that is ever believed."""

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from gpt2_tuning import compiled_cache, nvidia, startup
from gpt2_tuning.compiled_cache import FLAG, FLAGS
from gpt2_tuning.nvidia import Card, Driver

SRC = Path(__file__).parents[1] / "src"
CODE = """
import dataclasses, sys
from gpt2_tuning import cli

@dataclasses.dataclass(frozen=True)
class Options:
    pass

def compute(options):
    import tensorflow as tf
    compiled = tf.function(lambda x: tf.math.erf(x) * tf.math.tanh(x), jit_compile=True)
    print(compiled(tf.range(5.0)).numpy().tolist())

sys.exit(cli.run(Options, compute, []))
"""
ENTRY = "xla_compile_cache__1__2__XLA_CPU_JIT.pb"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A directory of caches that is nobody's yet, and no flags of XLA."""
    for name in (FLAGS, startup.XLA_FLAGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def compute(**environment):
    """Compiles and computes in a process of its own, as a script; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
        cwd=SRC,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


def entries(home):
    """Each entry, and when it was written."""
    found = home.rglob(compiled_cache.ENTRIES)
    return {path: path.stat().st_mtime_ns for path in found}


def test_a_second_process_is_served_and_a_damaged_entry_is_made_again(home):
    first = compute()
    (entry,) = kept = entries(home)
    assert compute().stdout == first.stdout
    assert entries(home) == kept  # what is compiled is written
    entry.write_bytes(entry.read_bytes()[:-100])
    assert compute().stdout == first.stdout
    assert entries(home).keys() == kept.keys()
    assert entries(home) != kept
    assert compiled_cache.is_whole(entry)


def test_a_directory_that_others_can_write_to_is_a_note_and_no_cache(home):
    shared = home / "gpt2-tuning" / "compiled"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    shown = compute()
    assert shown.stderr.startswith("note: compiled steps are not kept: ")
    assert f"open to other users: chmod go-rwx {shared}" in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not entries(home)


def test_a_user_s_own_cache_is_left_to_the_user(home, tmp_path):
    compute(**{FLAGS: f"--{FLAG}={tmp_path / 'mine'}"})
    assert not home.exists()
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_a_file_of_flags_is_left_to_the_user(home, tmp_path):
    (tmp_path / "flags").write_text("--tf_xla_auto_jit=0\n")
    compute(**{FLAGS: str(tmp_path / "flags")})
    assert not home.exists()


@pytest.mark.parametrize("name", ["of John Smith", "of 'quotes'"])
def test_entries_are_in_the_directory_that_was_checked_whatever_its_name(home, name):
    place = home.with_name(name)
    compute(XDG_CACHE_HOME=str(place))
    (entry,) = entries(place)
    assert compiled_cache.is_whole(entry)
    assert {path.name for path in home.parent.iterdir()} == {name}


@pytest.mark.usefixtures("home")
def test_a_name_that_tensorflow_cannot_be_told_is_a_note(monkeypatch, tmp_path, capsys):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "'\""))
    with compiled_cache.used():
        assert FLAGS not in os.environ
    assert "note: compiled steps are not kept: " in capsys.readouterr().err


def test_an_entry_that_cannot_be_written_is_one_line(monkeypatch, home):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    written = f"{home}/gpt2-tuning/compiled/{compiled_cache.key('')}/{ENTRY}m-1.tmp"
    ended = pytest.raises(OSError, match=r"\(File too large\): TF_XLA_FLAGS=.*= does without")
    with ended, compiled_cache.used():
        raise RuntimeError(f"{{{{node a}}}} {written}; File too large\n [Op:f]")
    with pytest.raises(RuntimeError, match="of another kind"), compiled_cache.used():
        raise RuntimeError("of another kind")


@pytest.mark.usefixtures("home")
def test_what_is_left_of_a_killed_process_goes_and_a_directory_is_no_entry():
    directory = compiled_cache.prepared("key")
    for age in (0, 2 * compiled_cache.ABANDONED):
        unfinished = directory / f"{ENTRY}m-{age}.tmp"
        unfinished.touch()
        os.utime(unfinished, (time.time() - age,) * 2)
    (directory / ENTRY).mkdir()
    compiled_cache.prepared("key")
    compiled_cache.seal(directory)
    assert {path.name for path in directory.iterdir()} == {ENTRY, f"{ENTRY}m-0.tmp"}


@pytest.mark.usefixtures("home")
def test_directories_that_tensorflow_made_again_are_closed_to_others():
    directory = compiled_cache.prepared("key")
    for place in (directory, directory.parent):
        place.chmod(0o755)
    compiled_cache.prepared("key")
    assert {place.stat().st_mode & 0o777 for place in (directory, directory.parent)} == {0o700}


def filled(name="key"):
    """The directory of the cache with an entry that TensorFlow has added."""
    directory = compiled_cache.prepared(name)
    (directory / ENTRY).write_bytes(b"code")
    return directory


@pytest.mark.usefixtures("home")
def test_an_entry_stays_with_its_sum_and_goes_without():
    directory = filled()
    compiled_cache.seal(directory)
    compiled_cache.prepared("key")
    assert (directory / ENTRY).exists()
    for damage in (b"cod", b"cods", b""):
        compiled_cache.seal(filled())
        (directory / ENTRY).write_bytes(damage)
        compiled_cache.prepared("key")
        assert list(directory.iterdir()) == []
    filled()  # by a process that was killed
    compiled_cache.prepared("key")
    assert list(directory.iterdir()) == []


@pytest.mark.usefixtures("home")
def test_a_link_is_no_entry(tmp_path):
    directory = filled()
    compiled_cache.seal(directory)
    (directory / ENTRY).rename(tmp_path / "elsewhere")
    (directory / ENTRY).symlink_to(tmp_path / "elsewhere")
    compiled_cache.prepared("key")
    assert not (directory / ENTRY).is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_directories_are_the_user_s_alone_whatever_the_umask(home):
    kept = os.umask(0)
    try:
        directory = compiled_cache.prepared("key")
    finally:
        os.umask(kept)
    for place in (directory, directory.parent):
        assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "place", ["gpt2-tuning", "gpt2-tuning/compiled", "gpt2-tuning/compiled/key"]
)
@pytest.mark.parametrize("fault", ["open", "link", "another user's"])
def test_a_directory_that_is_not_the_user_s_alone_is_refused(home, monkeypatch, place, fault):
    compiled_cache.prepared("key")
    directory = home / place
    if fault == "open":
        directory.chmod(0o777)
    elif fault == "link":
        directory.rename(home / "elsewhere")
        directory.symlink_to(home / "elsewhere")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(OSError, match=fault):
        compiled_cache.prepared("key")


@pytest.mark.usefixtures("home")
def test_a_disk_that_is_nearly_full_is_left_alone(monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6))
    with pytest.raises(OSError, match="nearly full"):
        compiled_cache.prepared("key")


@pytest.mark.usefixtures("home")
def test_the_oldest_entries_go_above_the_bound(monkeypatch):
    monkeypatch.setattr(compiled_cache, "BOUND", 10)
    directories = [filled(name) for name in ("a", "b", "c")]
    for age, directory in enumerate(directories):
        os.utime(directory / ENTRY, (age, age))
        compiled_cache.seal(directory)
    left = [len(list(directory.iterdir())) for directory in directories]
    assert left == [0, 2, 2]  # 4 bytes an entry, and its sum


def test_the_key_is_of_all_that_compiled_code_depends_on(monkeypatch):
    keys = [compiled_cache.key("")]
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0")
        keys.append(compiled_cache.key(""))
    keys.append(compiled_cache.key("--tf_xla_max_cluster_size=1"))
    with monkeypatch.context() as patch:
        patch.setattr(compiled_cache.importlib.metadata, "version", lambda name: "9.9")
        keys.append(compiled_cache.key(""))
    for card in (Card("NVIDIA H200", (9, 0), 1, 1), Card("NVIDIA H100", (9, 0), 1, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(nvidia, "driver", lambda card=card: Driver((12, 4), [card]))
            keys.append(compiled_cache.key(""))
    with monkeypatch.context() as patch:
        patch.setattr(compiled_cache.processor, "field", lambda name: "another")
        keys.append(compiled_cache.key(""))
    assert len(set(keys)) == len(keys)
    assert compiled_cache.key("") == keys[0]

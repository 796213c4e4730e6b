"""What was compiled serves the next process, and nothing but that is ever believed."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import tensorflow as tf
from script_runs import refused

from classification_tuning import test as classification_test
from gpt2_tuning import compiled_cache, nvidia, startup
from gpt2_tuning.compiled_cache import FLAG, FLAGS
from gpt2_tuning.errors import UserError
from gpt2_tuning.nvidia import Card, Driver
from gpt2_tuning.tasks import try_classifier

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
    caches = tmp_path / 'user "me"\\caches'  # blanks and quotes, as TensorFlow's flags have too
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    return caches


def compute(code=0, limit=None, **environment):
    """Compiles and computes in a process of its own, as a script; what it printed.

    `limit` is how many bytes a file may have.
    """

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
        cwd=SRC,
        env={**os.environ, **environment},
        preexec_fn=limited if limit else None,
    )
    assert done.returncode == code, done.stderr
    return done


def entries(home):
    """Each entry, and when it was written."""
    found = home.rglob(compiled_cache.ENTRIES)
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
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


def test_an_entry_that_cannot_be_written_is_one_line_and_is_not_left_for_long(home, monkeypatch):
    shown = compute(code=2, limit=1000)
    assert shown.stderr.startswith("error: cannot keep what was compiled (")
    assert "File too large" in shown.stderr
    assert f"TF_XLA_FLAGS=--{FLAG}= before the command does without" in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not entries(home)
    (leftover,) = home.rglob("*.tmp")
    compiled_cache.prepared("another")
    assert leftover.exists()  # as far as is known it is still being written
    later = time.time() + 2 * compiled_cache.LEFTOVER_SECONDS
    monkeypatch.setattr(compiled_cache.time, "time", lambda: later)
    compiled_cache.prepared("another")
    assert not leftover.exists()


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, f"/home/x/{ENTRY}.tmp; No space left"),
        tf.errors.FailedPreconditionError(
            None, None, "Graph execution error:\n\n/x/gpt2-tuning/compiled/1 is not a directory"
        ),
    ],
)
def test_whatever_tensorflow_says_of_the_cache_is_a_line_that_does_without(
    error, capsys, monkeypatch
):
    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(try_classifier, "try_classifier", fail)
    line = refused(classification_test.main, capsys, "--text", "hello")
    assert re.search(rf"(No space left|not a directory)\): \S+{FLAG}= before the command", line)
    assert "Graph" not in line


def test_other_errors_stay_what_they_are():
    for error in (tf.errors.InternalError(None, None, "INTERNAL"), UserError(f"{ENTRY} is odd")):
        with pytest.raises(type(error)), compiled_cache.used():
            raise error


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


@pytest.mark.usefixtures("home")
def test_what_is_no_entry_is_passed_over():
    directory = filled()
    odd = directory / ENTRY.replace("1", "3", 1)
    odd.mkdir()
    (directory / "link").symlink_to(odd)
    (directory / "link").rename(directory / ENTRY.replace("1", "4", 1))
    os.mkfifo(directory / ENTRY.replace("1", "5", 1))
    compiled_cache.seal(directory)
    compiled_cache.prepared("key")
    assert {path.name for path in directory.iterdir()} == {
        *(ENTRY, ENTRY + compiled_cache.SUM, odd.name)
    }


@pytest.mark.usefixtures("home")
def test_an_entry_that_another_process_removes_leaves_the_others_their_sums(monkeypatch):
    directory = filled()
    other = directory / ENTRY.replace("1", "3", 1)
    other.write_bytes(b"code")
    gone: list[Path] = []

    def sha256_of(path):
        if not gone:
            gone.append(path)
            path.unlink()
        return whole(path)

    whole = compiled_cache.sha256_of
    monkeypatch.setattr(compiled_cache, "sha256_of", sha256_of)
    compiled_cache.seal(directory)
    (left,) = {directory / ENTRY, other} - {*gone}
    assert compiled_cache.is_whole(left)


@pytest.mark.usefixtures("home")
def test_what_stands_in_a_directory_open_to_others_gets_no_sum():
    directory = filled()
    directory.chmod(0o755)  # as TensorFlow makes one that was removed meanwhile
    with pytest.raises(OSError, match="open"):
        compiled_cache.seal(directory)
    assert not (directory / (ENTRY + compiled_cache.SUM)).exists()


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
    h200 = Card("NVIDIA H200", (9, 0), 1, 1)
    for driver in (
        Driver((12, 4), [h200], "550.54.15"),
        Driver((12, 4), [h200], "550.90.07"),
        Driver((12, 6), [h200], "550.54.15"),
        Driver((12, 4), [h200._replace(name="NVIDIA H100")], "550.54.15"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(nvidia, "driver", lambda driver=driver: driver)
            keys.append(compiled_cache.key(""))
            versions = {"nvidia-cudnn-cu12": "9.9", "tensorflow": "2.21.0"}
            patch.setattr(compiled_cache.importlib.metadata, "version", versions.__getitem__)
            patch.setattr(
                compiled_cache.importlib.metadata,
                "requires",
                lambda name: ["keras>=3", 'nvidia-cudnn-cu12<10.0,>=9.3; extra == "and-cuda"'],
            )
            keys.append(compiled_cache.key(""))
    with monkeypatch.context() as patch:
        patch.setattr(compiled_cache.processor, "field", lambda name: "another")
        keys.append(compiled_cache.key(""))
    assert len(set(keys)) == len(keys)
    assert compiled_cache.key("") == keys[0]

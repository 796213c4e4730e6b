"""TensorFlow's import is quiet and lean, and comes only when it is needed."""

import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2_tuning.startup import hidden, import_tensorflow

SRC = Path(__file__).parents[1] / "src"


def run(code):
    """Runs Python code in a process of its own; it must say nothing on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=SRC
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_hidden_module_is_as_if_not_installed_until_the_block_ends(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hidden(("wave", "json")):
        with pytest.raises(ImportError):
            importlib.import_module("wave")
        assert importlib.import_module("json")  # it was imported before
    assert importlib.import_module("wave")


def test_hidden_module_is_back_when_the_import_fails(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(ZeroDivisionError), hidden(("wave",)):
        raise ZeroDivisionError
    assert importlib.import_module("wave")


def test_tensorflow_is_imported_quietly_and_without_what_nothing_here_uses():
    run(
        "import gc, sys\n"
        "from gpt2_tuning.startup import UNUSED, import_tensorflow\n"
        "import_tensorflow()\n"
        "import keras, tensorflow\n"
        "assert keras.backend.backend() == 'tensorflow'\n"
        "assert not set(UNUSED) & set(sys.modules)\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "import matplotlib.pyplot, sklearn.metrics, pandas, pyarrow\n"
        "assert sklearn.metrics.accuracy_score([1], [1]) == 1\n"
        "assert len(pyarrow.table({'a': [1]}).to_pandas()) == 1\n"
    )


def test_import_that_was_done_before_keeps_nothing_from_being_collected():
    import_tensorflow()
    before = gc.get_freeze_count()
    import_tensorflow()
    assert gc.get_freeze_count() == before
    assert gc.isenabled()


def flags_of_xla(given, card):
    """What XLA_FLAGS is for TensorFlow, and what is said, where there is such a card, or None."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from gpt2_tuning import nvidia, startup\n"
            f"nvidia.driver = lambda: {card!r}\n"
            "startup.without_triton()\n"
            "print(os.environ.get('XLA_FLAGS'))\n"
            "startup.import_tensorflow()\n"  # which ends the process at a flag it does not know
            "import tensorflow as tf\n"
            "tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([2]))\n",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=SRC,
        env={**os.environ, **given},
    )


@pytest.mark.parametrize(
    ("given", "card", "expected"),
    [
        ({}, "a card", "--xla_gpu_enable_triton_gemm=false"),
        (
            {"XLA_FLAGS": "--xla_gpu_autotune_level=2"},
            "a card",
            "--xla_gpu_autotune_level=2 --xla_gpu_enable_triton_gemm=false",
        ),
        (
            {"XLA_FLAGS": "--xla_gpu_enable_triton_gemm=true"},
            "a card",
            "--xla_gpu_enable_triton_gemm=true",
        ),
        ({}, None, "None"),
    ],
    ids=["none", "others", "this one", "no card"],
)
def test_triton_is_off_on_a_gpu_unless_the_user_has_spoken(monkeypatch, given, card, expected):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    done = flags_of_xla(given, card)
    assert done.stdout == f"{expected}\n"
    said = expected.endswith("triton_gemm=false")
    assert done.stderr.count("note: XLA_FLAGS=--xla_gpu_enable_triton_gemm=false is set") == said


def test_a_file_of_flags_stays_as_it_is(tmp_path):
    """XLA takes what does not begin with a dash for the name of one, whole."""
    (tmp_path / "flags").write_text("--xla_cpu_multi_thread_eigen=true\n")
    done = flags_of_xla({"XLA_FLAGS": str(tmp_path / "flags")}, "a card")
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'flags'}\n", "")


@pytest.mark.parametrize("task", ["classification", "entailment", "instruction", "text"])
def test_preparation_answers_bad_files_without_tensorflow_or_datasets(task):
    run(
        "import contextlib, io, sys\n"
        f"from {task}_tuning import prep_dataset\n"
        "with contextlib.redirect_stderr(io.StringIO()):\n"
        "    assert prep_dataset.main(['--train_file', 'none.csv']) == 2\n"
        "assert not {'tensorflow', 'keras', 'datasets', 'transformers'} & set(sys.modules)\n"
    )


def test_local_rows_are_prepared_without_the_hubs_libraries(tmp_path):
    run(
        "import contextlib, io, sys\n"
        "from classification_tuning import prep_dataset\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    flags = ['--dataset', 'sample', '--output_dir', {str(tmp_path / 'set')!r}]\n"
        "    assert prep_dataset.main(flags) == 0\n"
        "assert not {'datasets', 'transformers'} & set(sys.modules)\n"
    )

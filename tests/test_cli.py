"""The command line: one line for a mistake, exit codes, and YAML files of flags."""

import dataclasses
import io
import json
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gpt2_tuning import cli
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.answer_sinks import Printed
from gpt2_tuning.options.testing import TestOptions
from gpt2_tuning.options.training import TrainOptions

SCRIPTS = sorted(
    path
    for folder in (Path(cli.__file__).parents[1]).glob("*_tuning")
    for path in folder.glob("*.py")
    if folder.name != "gpt2_tuning"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Does a thing."""

    learning_rate: float | None = None
    """A rate."""
    targets: tuple[str, ...] = ("a",)
    """Names."""
    packing: bool = True
    """A switch."""
    config: Path | None = None
    """A file."""


def test_flags_have_underscores_and_types():
    options = cli.parse_options(Options, ["--learning_rate", "1e-4", "--targets", "b", "c"])
    assert options == Options(1e-4, ("b", "c"))
    assert cli.parse_options(Options, ["--no_packing"]).packing is False


def test_config_file_gives_what_the_line_does_not(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("learning_rate: 1e-4\ntargets: [x, y]\npacking: false\n")
    from_file = cli.parse_options(Options, ["--config", str(file)])
    assert from_file == Options(1e-4, ("x", "y"), packing=False, config=file)
    both = cli.parse_options(Options, [f"--config={file}", "--packing", "--targets=z"])
    assert both == Options(1e-4, ("z",), packing=True, config=file)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nope", "3"], "--nope"),
        (["--learning_rate", "fast"], "--learning_rate"),
        (["--config"], "--config needs a value: a path"),
        (["--config", "missing.yaml"], "cannot read the config missing.yaml"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(argv, message, capsys):
    assert cli.run(Options, lambda _: None, argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "a: [\n", "nonsense: 1\n", "learning_rate: [1, 2]\n"]
)
def test_unusable_config_files_are_refused(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UserError):
        cli.parse_options(Options, ["--config", str(file)])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no such\nfile"), 2, "error: no such file\n"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: a\nlong story"), 2, f"{cli.OUT_OF_MEMORY}\n"),
    ],
)
def test_exit_codes(error, code, line, capsys):
    def fail(_):
        raise error

    assert cli.run(Options, fail, []) == code
    assert capsys.readouterr().err == line


def test_a_defect_keeps_its_traceback():
    def defect(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(Options, defect, [])


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (TrainOptions(epochs=0), "--epochs"),
        (TrainOptions(batch_size=0), "--batch_size"),
        (TrainOptions(learning_rate=0.0), "--learning_rate"),
        (TrainOptions(lora_rank=-1), "--lora_rank"),
        (TrainOptions(warmup_share=1.5), "--warmup_share"),
        (TrainOptions(resume=True, overwrite=True), "--resume and --overwrite"),
        (TestOptions(output=Path("x")), "--output needs --input"),
    ],
)
def test_values_out_of_range_name_their_flag(options, flag):
    with pytest.raises(UserError, match=flag):
        options.check()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_ctrl_c_in_a_scripts_imports_is_a_line_and_exit_code_130(script):
    code = (
        "import os, runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "class CtrlC:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.startswith('gpt2_tuning.options.'): os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_other_errors_in_a_scripts_imports_keep_their_traceback():
    code = "from gpt2_tuning import cli; 1 / 0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help_answers_without_tensorflow(script):
    code = (
        "import runpy, sys; sys.argv = ['script', '--help']\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


@pytest.mark.parametrize(
    "recipe", sorted((Path(cli.__file__).parents[2] / "experiments").glob("*.yaml")), ids=str
)
def test_recipes_are_flags_of_their_script(recipe):
    task = recipe.stem.split("_")[0]
    script = runpy.run_path(str(Path(cli.__file__).parents[1] / f"{task}_tuning" / "train.py"))
    cli.parse_options(script["Options"], ["--config", str(recipe)]).check()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_terminal_lacks_is_shown_as_an_escape(encoding, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert cli.run(Options, lambda _: print("é … 日"), [], tensorflow=False) == 0
    shown.flush()
    expected = "é … 日".encode(encoding, "backslashreplace")
    assert shown.buffer.getvalue().strip() == expected


def test_answers_on_a_terminal_are_json_in_any_encoding(monkeypatch):
    rows = ['{"text": "é 日 🎉"}', '{"text": "x"}']
    shown = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", shown)
    Printed().append(rows)
    lines = shown.buffer.getvalue().decode("cp1252").splitlines()
    assert list(map(json.loads, lines)) == list(map(json.loads, rows))


def test_a_warning_for_users_is_a_note_without_its_place_in_the_code(capsys):
    def action(options):
        warnings.warn("fields kept:\n x", stacklevel=1)

    assert cli.run(Options, action, [], tensorflow=False) == 0
    assert capsys.readouterr().err == "note: fields kept: x\n"

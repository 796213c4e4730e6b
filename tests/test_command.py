"""One command for every task's steps: the flags of the scripts, and a line for what is none."""

import dataclasses
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from script_runs import refused

import gpt2_tuning
from gpt2_tuning import __main__ as command
from gpt2_tuning.commands import launch
from gpt2_tuning.families import known
from gpt2_tuning.paths import SCRIPTS, step_command

TOP = Path(__file__).parents[1]
STEPS = [(step, task) for step in command.STEPS for task in command.task_names()]


def help_of(main, capsys, *arguments):
    """What is printed, the first line, which names the program, apart."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    usage, _, flags = capsys.readouterr().out.partition("\n")
    return usage, flags


def test_each_folder_of_scripts_is_a_task():
    folders = sorted(path.parent.name for path in (TOP / "src").glob("*_tuning/train.py"))
    assert command.task_names() == [folder.removesuffix("_tuning") for folder in folders]


@pytest.mark.parametrize(("step", "task"), STEPS)
def test_script_and_command_have_the_same_flags_and_help(step, task, capsys):
    script = importlib.import_module(f"{task}_tuning.{SCRIPTS[step].removesuffix('.py')}")
    _, by_script = help_of(script.main, capsys)
    usage, by_command = help_of(command.main, capsys, step, task)
    assert usage == f"usage: gpt2-tuning {step} {task} [-h] [OPTIONS]"
    assert by_command == by_script
    shown = set(re.findall(r"--(\w+)", by_command))
    for field in dataclasses.fields(script.Options):
        name = field.name.removesuffix("_")
        assert {name, f"no_{name}"} & shown, name


def test_the_help_names_the_layers_that_lora_adapts_of_every_family(capsys):
    _, said = help_of(command.main, capsys, "train", "text")
    said = said.partition("--lora_targets")[2].partition("--lora_layers")[0]
    assert {*known.FAMILIES, "all-linear"} - {"mistral", "qwen2", "qwen3"} <= words(said)
    assert words(said) >= {*known.LORA_TARGETS, *known.family_named("gpt2").lora_targets}


def words(text):
    """Its words, without what ends sentences and the frame of a help."""
    return set(re.findall(r"[a-z0-9_.-]*[a-z0-9]", text))


@pytest.mark.parametrize("name", command.COMMANDS)
def test_commands_are_those_of_their_modules(name, capsys):
    module = importlib.import_module(f"gpt2_tuning.commands.{name}")
    usage, flags = help_of(command.main, capsys, name)
    assert usage.startswith(f"usage: gpt2-tuning {name} ")
    assert flags == help_of(module.main, capsys)[1]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", "no command is given: prepare, train, test, chat, serve, export, adapters, plan,"),
        ("trian text", "unknown command trian: did you mean train? (there are prepare, train,"),
        ("prep_dataset text", "unknown command prep_dataset: did you mean prepare? (there are"),
        ("--verison", "unknown command --verison: did you mean --version? (there are prepare,"),
        (
            "bake",
            "unknown command bake (there are prepare, train, test, chat, serve, export, adapters,",
        ),
        ("train", "train needs a task: classification, entailment, instruction or text"),
        ("train --epochs 3", "train needs a task before --epochs: classification, entailment,"),
        ("test classify", "unknown task classify: did you mean classification? (there are"),
        ("test x", "unknown task x (there are classification, entailment, instruction, text)"),
        ("text train", "text is a task, which comes second: gpt2-tuning train text"),
        ("train text --lr 1", "unknown flag --lr: did you mean --learning_rate?"),
        ("--tyro-print-completion ash", "--tyro-print-completion needs a shell: bash, zsh or tcsh"),
    ],
)
def test_what_is_none_is_answered_with_what_there_is_and_the_nearest(line, answer, capsys):
    assert answer in refused(command.main, capsys, *line.split(), silent=True)


def test_the_command_says_what_there_is(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"gpt2-tuning {gpt2_tuning.__version__}\n"
    assert command.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in (*command.STEPS, *command.COMMANDS, *command.task_names()):
        assert re.search(rf"\b{name}\b", overview)
    assert command.main(["train", "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(command.task_names())


def test_the_project_installs_the_command_and_has_the_librarys_version():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == gpt2_tuning.__version__
    module, function = project["scripts"]["gpt2-tuning"].split(":")
    assert getattr(importlib.import_module(module), function) is command.main


def test_a_shell_completes_commands_tasks_and_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--tyro-print-completion", "bash"])
    assert not ended.value.code
    script = capsys.readouterr().out
    for part in ("gpt2-tuning", "'entailment'", "'--lora_rank'", "'--hypothesis'", "'--card'"):
        assert part in script


ANSWERS = """
import sys
from gpt2_tuning import __main__ as command

def run(*argv):
    try:
        return command.main(list(argv))
    except SystemExit as ended:
        return ended.code

codes = [run("--help"), run("train", "--help"), run("train", "text", "--help"), run("plan", "-h")]
codes += [run("trian"), run("test", "text", "--epochs", "3"), run("plan", "--devices", "0")]
print(codes, sorted({"tensorflow", "keras", "transformers"} & set(sys.modules)))
"""


def test_help_and_mistakes_are_answered_without_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 2, 2, 2] []"


def test_workers_are_started_with_the_command_too(capfd):
    assert launch.main(["--workers", "1", "--", "gpt2-tuning", "train", "textt"]) == 2
    # tokenizers may have said before that a process was forked.
    assert "error: unknown task textt: did you mean text?" in capfd.readouterr().err


def test_scripts_are_named_where_they_are(monkeypatch):
    assert step_command("prepare", "text") == "python text_tuning/prep_dataset.py"
    monkeypatch.setattr("gpt2_tuning.paths.__file__", "/usr/lib/site-packages/gpt2_tuning/paths.py")
    assert step_command("prepare", "text") == "gpt2-tuning prepare text"

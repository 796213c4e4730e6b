"""`gpt2-tuning chat`: its flags, and what is refused before any model is made."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from answer_runs import no_model
from script_runs import refused

from gpt2_tuning import __main__ as command
from gpt2_tuning import extras
from gpt2_tuning.commands import chat


@pytest.fixture(autouse=True)
def with_gradio(monkeypatch):
    """As if Gradio were there; what asks for it in earnest is in the test of the page."""
    monkeypatch.setattr(extras, "is_installed", lambda extra: True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no run is given: gpt2-tuning chat RUN"),
        ("run --port 0", "--port must be from 1 to 65535, not 0"),
        ("run --port 65536", "--port must be from 1 to 65535"),
        ("run --adapter tone", "--adapter must be NAME=DIR, not 'tone'"),
        ("run --adapter tone=", "--adapter must be NAME=DIR"),
        ("run --adapter a.b=c", "a name is of letters, digits, - and _"),
        ("run --adapter a=b --adapter a=c", "--adapter a=c: something else is called a"),
        ("run --adapter base=b", "--adapter base=b: something else is called base"),
        ("run --prot 7", "unknown flag --prot: did you mean --port?"),
        ("nowhere", "--run_dir nowhere is not there: give the --output_dir of a finished training"),
    ],
)
def test_mistakes_are_one_line(line, message, capsys):
    assert message in refused(command.main, capsys, "chat", *line.split(), silent=True)


def test_what_stands_first_are_runs_and_the_rest_flags(monkeypatch):
    seen: list[chat.Options] = []
    monkeypatch.setattr(chat, "chat", seen.append)
    assert (
        chat.main(["one", "two", "--run_dir", "three", "--adapter", "a=b=c", "--port", "81"]) == 0
    )
    (options,) = seen
    assert options.run_dir == (Path("one"), Path("two"), Path("three"))
    assert options.adapters == {"a": Path("b=c")}
    assert (options.host, options.port, options.share) == ("127.0.0.1", 81, False)


def test_a_port_in_use_is_refused_before_the_model_is_made(monkeypatch, capsys):
    monkeypatch.setattr("gpt2_tuning.chat.opened.open_runs", no_model)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(chat.main, capsys, "run", "--port", port, silent=True)
        assert f"--port {port} is in use: give another" in line
        monkeypatch.setattr(chat, "FIRST_PORT", port)
        assert chat.free_port("127.0.0.1", None) > port
    assert chat.free_port("127.0.0.1", port) == port
    line = refused(chat.main, capsys, "run", "--host", "192.0.2.1", silent=True)
    assert "the page cannot be at --host 192.0.2.1: " in line


def test_without_the_extra_a_line_names_it(monkeypatch, capsys):
    monkeypatch.setattr(extras, "is_installed", lambda extra: extra != "chat")
    line = refused(chat.main, capsys, "run", silent=True)
    assert line.startswith("error: the chat page needs the package gradio, which is not installed")
    assert 'pip install -e ".[chat]"' in line


def test_the_texts_of_an_example_are_called_as_the_tasks_flags():
    assert chat.texts_of("classification") == ("text",)
    assert chat.texts_of("entailment") == ("premise", "hypothesis")
    with pytest.raises(chat.UserError, match="there is no task other"):
        chat.texts_of("other")


@pytest.mark.slow
def test_preparation_training_and_testing_load_nothing_of_the_page():
    code = (
        "import sys\n"
        "from gpt2_tuning.tasks.instruction import prepare, test, train\n"
        "from gpt2_tuning.tasks import try_classifier, try_language_model\n"
        "from gpt2_tuning.training import run, language_model, classifier\n"
        "print([m for m in sys.modules if 'gradio' in m or m.startswith('gpt2_tuning.chat')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""The command from its start to its end: a port, an answer, a signal; and who is spared of it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from http_server import needs_serve
from script_runs import refused
from served_runs import instruction_runs

from gpt2_tuning.commands import serve

SERVE = [sys.executable, "-m", "gpt2_tuning", "serve"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return instruction_runs(tmp_path_factory.mktemp("runs"))


class Started:
    """A server in a process of its own."""

    def __init__(self, *flags):
        given = [str(flag) for flag in (*flags, "--port", 0)]
        self.process = subprocess.Popen(
            SERVE + given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.models = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, "the server did not start"
        self.url = found.group()

    def ask(self, path, **fields):
        """The open answer to a request."""
        body = json.dumps(fields).encode() if fields else None
        return urllib.request.urlopen(self.url + path, body, timeout=120)

    def ended(self):
        """The exit code and what was said, once it has ended."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def started(runs):
    """It serves every test here; the last one ends it."""
    made = Started(runs[0], "--adapter", f"facts={runs[1]}")
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


@needs_serve
def test_a_port_that_is_taken_is_one_line_before_the_model_is_read(runs, capsys, monkeypatch):
    from gpt2_tuning.serving import server

    monkeypatch.setattr(server, "load", lambda *given: pytest.fail("the model was read"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(serve.main, capsys, runs[0], "--port", port, silent=True)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in line
    line = refused(serve.main, capsys, runs[0], "--host", "no.such.host.invalid", silent=True)
    assert "--host no.such.host.invalid is no address of this machine" in line


@needs_serve
def test_a_run_that_is_none_is_one_line_and_frees_the_port(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        line = refused(serve.main, capsys, tmp_path / "empty", "--port", port, silent=True)
        assert "is not a run: it is empty" in line


@needs_serve
def test_nobody_else_hears_of_it_unless_told(started):
    found = re.fullmatch(r"http://(.*):(\d+)/v1", started.url)
    assert found
    host, port = found.groups()
    assert host == "127.0.0.1"
    with pytest.raises(OSError):  # noqa: PT011 - whichever says that nobody listens
        socket.create_connection(("127.0.0.2", int(port)), timeout=5)


WITHOUT = """
import importlib, pkgutil, sys
import gpt2_tuning
from gpt2_tuning import __main__ as command, tasks
for module in pkgutil.walk_packages(tasks.__path__, "gpt2_tuning.tasks."):
    importlib.import_module(module.name)
for name in gpt2_tuning.__all__:
    getattr(gpt2_tuning, name)
command.overview()
from gpt2_tuning.inference import answering, responding
names = ("fastapi", "starlette", "uvicorn", "prometheus_client", "openai")
print([name for name in sys.modules if name.startswith("gpt2_tuning.serving") or name in names])
"""


def test_nothing_of_it_is_imported_where_is_prepared_trained_and_tested():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"


@needs_serve
def test_many_ask_at_once_and_each_has_its_own_answer(started):
    """Through a process of its own: 24 clients, each with an answer that is known."""
    fields = {"max_tokens": 12, "temperature": 1.0}
    names, found = ["tone", "base", "facts"], dict[int, str]()

    def ask(number):
        asked = {"model": names[number % 3], "prompt": f"{number} a", "seed": number, **fields}
        return json.load(started.ask("/completions", **asked))["choices"][0]["text"]

    threads = [threading.Thread(target=lambda n=n: found.update({n: ask(n)})) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {number: ask(number) for number in range(24)}


@needs_serve
def test_the_pages_example_is_answered(started, capsys):
    text = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```py\n(.*?)```", text, flags=re.DOTALL)
    for name, other in (("http://127.0.0.1:8000/v1", started.url), ('"second"', '"facts"')):
        assert name in block
        block = block.replace(name, other)
    exec(compile(block, "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out.startswith("['tone', 'base', 'facts']\n")


@needs_serve
def test_a_signal_ends_the_server_once_what_runs_is_finished(started):
    assert started.models == "models: tone, base, facts\n"
    listed = json.load(started.ask("/models"))
    assert [one["id"] for one in listed["data"]] == ["tone", "base", "facts"]
    fields = {"model": "facts", "prompt": "a", "max_tokens": 120, "stream": True, "n": 8}
    answer = started.ask("/completions", **fields)
    first = answer.readline()
    started.process.send_signal(signal.SIGTERM)
    lines = [first, *answer]
    ends = [line for line in lines if b'"finish_reason": "' in line]
    assert len(ends) == 8
    assert lines[-2] == b"data: [DONE]\n"
    code, said = started.ended()
    assert code == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "terminated"
    assert "Traceback" not in said

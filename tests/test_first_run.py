"""A first run is timed as its user would see it: cold, then with what was compiled before."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from benchmarks import first_run

SAID = "compiling the training step… 2.5 s\ncompiling the evaluation step… 1.5 s\nepoch 1/1\n"


@pytest.fixture
def started(monkeypatch):
    """The command and the environment of every script that was to be started."""
    found = []

    def run(command, env, **_):
        found.append((command, env))
        flags = dict(zip(command[2::2], command[3::2], strict=False))
        if command[1].endswith("train.py"):
            entries = Path(env["XDG_CACHE_HOME"], "gpt2-tuning", "compiled", "2-0")
            entries.mkdir(parents=True, exist_ok=True)
            for name in ("a", "b", "c"):
                (entries / f"xla_compile_cache__{name}.pb").touch()
            output = Path(flags["--output_dir"])
            output.mkdir(parents=True)
            (output / "metrics.csv").write_text("epoch,padding_share\n1,0.5\n2,0.0625\n")
        elif "entailment" in command[1]:
            raise subprocess.CalledProcessError(2, command, stderr="noise\nerror: no column\n")
        return subprocess.CompletedProcess(command, 0, SAID, "")

    monkeypatch.setattr(first_run.subprocess, "run", run)
    monkeypatch.setattr(first_run, "device", lambda: "a GPU")
    return found


@pytest.fixture
def data(tmp_path):
    """Where every file of rows is."""
    for run in first_run.RUNS.values():
        if run.file:
            (tmp_path / "data" / run.file).parent.mkdir(parents=True)
            (tmp_path / "data" / run.file).touch()
    return tmp_path / "data"


def test_the_second_of_two_trainings_finds_what_the_first_compiled(started, data, tmp_path):
    work = tmp_path / "work"
    flags = ["--data", str(data), "--work", str(work), "--runs", "demo", "rte"]
    assert first_run.main(flags) == 1  # one failed
    content = json.loads((work / "figures.json").read_text())
    cold, warm, failed = content["runs"]
    for figures, compiled in ((cold, 3), (warm, 0)):
        assert figures.pop("seconds") > 0
        assert figures.pop("compiled") == compiled
        del figures["state"]
        assert figures == {
            "run": "demo",
            "step_shapes": 2,
            "first_steps_seconds": 4.0,
            "padding": 0.0625,
        }
    assert failed == {"run": "rte", "state": "", "error": "error: no column"}
    assert content["machine"]["device"] == "a GPU"
    caches = {env["XDG_CACHE_HOME"] for _, env in started}
    assert caches == {str(work / "demo" / "cache"), str(work / "rte" / "cache")}
    assert os.environ.get("XDG_CACHE_HOME") not in caches


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--runs", "dolly"], "--runs takes demo, emotion, rte, alpaca, not dolly"),
        (["--data", "nowhere"], "--data has no emotion/train.jsonl"),
        (["--work", "mine"], "--work must be new, empty, or left by this command, not mine"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_loses_nothing(
    flags, said, started, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert first_run.main(flags) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert (tmp_path / "mine" / "file").exists()
    assert not started


def test_figures_above_their_targets_are_named():
    cold = {"run": "emotion", "state": "cold", "step_shapes": 4, "first_steps_seconds": 200.0}
    found = [{**cold, "padding": 0.05}, {**cold, "state": "warm", "first_steps_seconds": 14.0}]
    (line,) = first_run.above(found)
    assert line == "above its target: emotion cold: s in first steps 200.000, not 150"


def test_a_script_that_hangs_is_given_up_with_the_figures_so_far(data, tmp_path, monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(first_run.subprocess, "run", run)
    monkeypatch.setattr(first_run, "device", lambda: "a GPU")
    work = tmp_path / "work"
    flags = ["--work", str(work), "--runs", "demo", "--timeout", "7"]
    assert first_run.main(flags) == 1
    (figures,) = json.loads((work / "figures.json").read_text())["runs"]
    assert figures["error"] == "longer than 7 s"

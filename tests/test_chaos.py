"""The short form of `make chaos`."""

import importlib
import subprocess
import sys

import chaos
import pytest

from gpt2_tuning import cli


@pytest.mark.slow
def test_stopped_preparation_and_training_lose_nothing():
    jobs = ["classification prep", "classification train"]
    flags = ["--jobs", *jobs, "--prep_stops", "1", "--train_stops", "2", "--together", "0"]
    command = [sys.executable, chaos.__file__, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 stops in " in done.stdout
    assert ": 0 differences" in done.stdout


@pytest.mark.parametrize("task", chaos.TASKS)
def test_every_job_has_flags_that_its_script_takes(task, tmp_path):
    for job in chaos.jobs_of(task):
        stage = {"prep_dataset": "prepare"}.get(*[job.script.rpartition(".")[2]] * 2)
        options_class = importlib.import_module(f"gpt2_tuning.tasks.{task}.{stage}").Options
        flags = [flag.format(output=tmp_path / "output", home=tmp_path) for flag in job.flags]
        cli.checked_options(options_class, flags)

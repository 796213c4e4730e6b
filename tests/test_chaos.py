"""The short form of `make chaos`."""

import subprocess
import sys

import chaos
import pytest


@pytest.mark.slow
def test_stopped_preparation_and_training_lose_nothing():
    jobs = ["classification prep", "classification train"]
    flags = ["--jobs", *jobs, "--prep_stops", "1", "--train_stops", "2", "--together", "0"]
    command = [sys.executable, chaos.__file__, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 stops in " in done.stdout
    assert ": 0 differences" in done.stdout

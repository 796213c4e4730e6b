"""The short form of `make chaos`."""

import subprocess
import sys

import chaos


def test_killed_preparation_and_training_lose_nothing():
    flags = ["--tasks", "classification", "--prep_kills", "1", "--train_kills", "2"]
    command = [sys.executable, chaos.__file__, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 kills in " in done.stdout
    assert ": 0 differences" in done.stdout

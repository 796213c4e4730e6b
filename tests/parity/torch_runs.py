"""Runs the PyTorch half of the parity tests, in the interpreter that PARITY_PYTHON names."""

import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("PARITY_PYTHON")
NEEDS_TORCH = pytest.mark.skipif(not PYTHON, reason="needs PyTorch and PEFT: make test-parity")


def run_torch_side(command, directory, name="torch_side.py"):
    script = Path(__file__).with_name(name)
    done = subprocess.run(
        [str(PYTHON), str(script), command, str(directory)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "USE_TORCH": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

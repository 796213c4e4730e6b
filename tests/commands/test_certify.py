"""The certificate is given where it is due, and refused where the loss is not invariant."""

from pathlib import Path

import pytest

from gpt2_tuning.commands import certify

BROKEN = Path(__file__).parents[1] / "certify_local_means.py"


@pytest.fixture(autouse=True)
def _find_the_library(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(certify.__file__).parents[2]))


@pytest.mark.slow
def test_parts_agree_with_the_whole(capfd):
    """Two workers are compared with one process in test_launch.py."""
    flags = ["--tasks", "classification", "--kinds", "full", "--cases", "4-parts"]
    assert certify.main(flags) == 0
    assert "1 of 1 agree to 1e-05" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "instruction"])
def test_packed_rows_agree_with_an_example_a_row(capfd, task):
    assert certify.main(["--tasks", task, "--kinds", "lora", "--cases", "packed"]) == 0
    assert "1 of 1 agree to 1e-05" in capfd.readouterr().out


@pytest.mark.slow
def test_means_of_means_are_refused(monkeypatch, capfd):
    monkeypatch.setattr(certify, "RUN", (str(BROKEN),))
    flags = ["--tasks", "classification", "--kinds", "lora", "--cases", "4-parts"]
    assert certify.main(flags) == 1
    output = capfd.readouterr().out
    assert "classification, lora, 4-parts: weights differ by" in output
    assert "0 of 1 agree" in output

"""Which interpreters and versions `make test-versions` and `make install` take."""

import os
import subprocess
import sys
import tomllib

import pytest
import versions

THIS = "{}.{}".format(*sys.version_info)


@pytest.fixture
def shims(tmp_path, monkeypatch):
    """Names of interpreters, first on the path, that end well and do nothing."""
    for name in ("python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_an_interpreter_counts_if_it_prints_its_version(shims):
    found = versions.interpreters()
    assert THIS in found
    assert not [path for path in found.values() if path.parent == shims]


def test_make_passes_over_interpreters_that_do_nothing(shims):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "install"],
        capture_output=True, text=True, check=True, cwd=versions.TOP,
    )  # fmt: skip
    assert f'test -n "{shims / "python3"}"' in done.stdout


def test_every_dependency_has_a_lower_bound_that_is_tested_and_no_other():
    project = tomllib.loads((versions.TOP / "pyproject.toml").read_text(encoding="utf-8"))
    bounds = [line.replace("==", ">=") for line in versions.lower_bounds()]
    assert bounds == project["project"]["dependencies"]


def test_the_tests_that_are_run_are_there():
    assert all((versions.TOP / "tests" / name).exists() for name in versions.TESTS)

"""Built as a wheel and installed elsewhere, the command needs nothing of the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from script_runs import DATASET_FILES, RUN_FILES, listing, names

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "src" / "gpt2_tuning"
NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
SMALL = ("--model_size", "tiny", "--pretrained", "none", "--epochs", "1")


def run(*command, where=None):
    """Runs a command, which must succeed, with nothing of this process's paths; what it printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=where, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since building leaves files beside the sources."""
    pytest.importorskip("setuptools", minversion="77")
    home = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, home / "src/gpt2_tuning", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:
        shutil.copy(TOP / name, home)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", home / "out", home)
    (found,) = (home / "out").iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of an environment with the wheel, and what it needs from the tests' own."""
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    flags = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", home / "bin/python", "install", *flags, wheel)
    (packages,) = home.glob("lib/python*/site-packages")
    # A line of a .pth file is one more place, in which such files are not read: an editable install
    # there brings nothing of the checkout.
    places = [place for place in sys.path if Path(place).name == "site-packages"]
    (packages / "dependencies.pth").write_text("\n".join(places) + "\n")
    return home / "bin"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(TOP / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == there


@pytest.mark.slow
def test_the_installed_command_prepares_tunes_and_tests_below_the_working_directory(
    installed, tmp_path
):
    where = "import gpt2_tuning; print(gpt2_tuning.__file__)"
    assert run(installed / "python", "-c", where, where=tmp_path)[0].startswith(
        str(installed.parent)
    )

    def step(*words):
        return run(installed / "gpt2-tuning", *words, where=tmp_path)

    said, noted = step("prepare", "classification", "--dataset", "sample", "--limit", "60")
    data = tmp_path / "tfrecords" / "classification"
    assert listing(data) == DATASET_FILES
    assert "note: without --output_dir, tfrecords and experiments/runs are those below" in noted
    assert f"{data} is ready. Next: gpt2-tuning train classification\n" in said

    said, noted = step("train", "classification", *SMALL)
    (run_dir,) = (tmp_path / "experiments" / "runs" / "classification").iterdir()
    assert names(run_dir) == {*RUN_FILES, "model"}
    assert f"the working directory, {tmp_path}" in noted
    hint = f"gpt2-tuning test classification --run_dir {run_dir}"
    assert f"next: {hint} --evaluate" in said
    assert f"    {hint} --text" in (run_dir / "README.md").read_text(encoding="utf-8")

    said, noted = step("test", "classification", "--evaluate", "--text", "i feel great")
    assert "i feel great" in said
    assert (run_dir / "test.json").is_file()
    assert noted.count("\n") == 1
    assert names(tmp_path) == {"tfrecords", "experiments"}

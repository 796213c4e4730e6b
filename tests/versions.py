"""Runs the core's tests on the oldest and newest versions allowed: `make test-versions`.

Each environment holds a bare core install and pytest: the newest versions on every Python that is
here, the oldest, which are the lower bounds of pyproject.toml, on the oldest of these. What an
extra is needed for is skipped.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PLACE = TOP / ".venv-versions"
PYTHONS = ("3.11", "3.12", "3.13")
TESTS = (
    *("models", "formats", "data", "inference"),
    *(f"training/test_{name}.py" for name in ("steps", "tuner")),
    *(f"test_{name}.py" for name in ("core_install", "prep_text", "classification_scripts")),
    *(f"test_{name}.py" for name in ("metrics", "plots")),
)
SHOWN = ("tensorflow", "keras", "numpy", "tokenizers", "huggingface_hub", "rich")
"""Packages whose versions the last table has."""
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


@dataclasses.dataclass(frozen=True)
class Case:
    """One environment: which Python, and which versions of what we depend on."""

    python: str
    interpreter: Path
    which: str
    """`oldest` or `newest`."""

    @property
    def directory(self) -> Path:
        """Where the environment lies."""
        return PLACE / f"{self.python}-{self.which}"

    @property
    def own_python(self) -> Path:
        """The environment's interpreter."""
        return self.directory / "bin" / "python"


def interpreters() -> dict[str, Path]:
    """The interpreters that are really here: a name may be a shim that does nothing."""
    return {
        python: found
        for python in PYTHONS
        if (found := next(filter(lambda path: prints(path, python), places(python)), None))
    }


def places(python: str) -> Iterator[Path]:
    """Where an interpreter may be: this one, on the path, or among those of pyenv and uv."""
    yield Path(sys.executable)
    if on_path := shutil.which(f"python{python}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{python}.*/bin/python"))
    yield from sorted(Path.home().glob(f".local/share/uv/python/cpython-{python}.*/bin/python3"))


def prints(interpreter: Path, python: str) -> bool:
    """Whether it runs and is of that version."""
    try:
        done = subprocess.run(
            [interpreter, "-c", VERSION], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return done.stdout.strip() == python


def lower_bounds() -> list[str]:
    """The oldest version of each dependency of the core, as pip's constraints."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in project["dependencies"]]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def install(case: Case) -> None:
    """Makes the environment, or brings it up to date. Raises CalledProcessError."""
    if not case.own_python.exists():
        subprocess.run([case.interpreter, "-m", "venv", "--clear", case.directory], check=True)
    pip = [str(case.own_python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if case.which == "newest":
        pip += ["--upgrade", "--upgrade-strategy", "eager"]
    else:
        constraints = case.directory / "constraints.txt"
        constraints.write_text("\n".join(lower_bounds()) + "\n")
        pip += ["--constraint", str(constraints)]
    subprocess.run([*pip, "--editable", str(TOP), "pytest>=8"], check=True)


def versions(case: Case) -> dict[str, str]:
    """The version of every package in the environment."""
    listing = ["-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run([str(case.own_python), *listing], capture_output=True, check=True)
    found = json.loads(done.stdout)
    return {package["name"].replace("-", "_"): package["version"] for package in found}


def passes(case: Case) -> bool:
    """Whether the tests pass there; they say themselves which do not."""
    files = [str(TOP / "tests" / name) for name in TESTS]
    command = [str(case.own_python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    return not subprocess.run(command, check=False, cwd=TOP).returncode


def main() -> int:
    """Runs every case, or those that are named; returns 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="such as 3.13-newest; all of them by default")
    wanted = parser.parse_args().cases
    found = interpreters()
    cases = [Case(python, path, "newest") for python, path in found.items()]
    oldest = next(iter(found))
    cases.insert(0, Case(oldest, found[oldest], "oldest"))
    for python in set(PYTHONS) - set(found):
        print(f"no Python {python} here: left out")
    lines, failed = [], False
    for case in cases:
        if wanted and case.directory.name not in wanted:
            continue
        print(f"\n{case.directory.name}: installing", flush=True)
        started = time.monotonic()
        install(case)
        seconds = time.monotonic() - started
        there = versions(case)
        shown = ", ".join(f"{name} {there[name]}" for name in SHOWN)
        print(f"installed in {seconds:.0f} s: {shown}", flush=True)
        passed = passes(case)
        failed |= not passed
        lines.append(f"{case.directory.name}: {'passed' if passed else 'FAILED'} with {shown}")
    print("", *lines, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

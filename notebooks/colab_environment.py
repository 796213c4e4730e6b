"""Makes an environment with Colab's versions, to run the notebooks in: `make notebooks-colab`.

Colab publishes what its machines have: googlecolab/backend-info on GitHub, pip-freeze.gpu.txt. Of
that list only what this project asks for is installed, at the versions it names. Were one of them
outside what pyproject.toml allows, Colab would replace it under a running kernel; here pip refuses.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")
WANTED = (f"{TOP}[datasets,rouge]", "pandas", "nbclient", "nbformat", "ipykernel")


def pins(listed: str) -> list[str]:
    """The lines NAME==VERSION of a list; not those that name a place."""
    return [line.strip() for line in listed.splitlines() if PIN.fullmatch(line.strip())]


def make(pinned: list[str], environment: Path) -> None:
    """Installs what the notebooks need into a new environment, where it has no pin as pip likes.

    Raises:
        subprocess.CalledProcessError: pip failed, and said why.
    """
    venv.create(environment, with_pip=True)
    with tempfile.TemporaryDirectory() as directory:
        constraints = Path(directory, "constraints.txt")
        constraints.write_text("\n".join(pinned), encoding="utf-8")
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
        flags = ["--disable-pip-version-check", "--constraint", constraints]
        subprocess.run([*pip, *flags, "--editable", *WANTED], check=True)


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path, help="a file with lines NAME==VERSION")
    parser.add_argument("environment", type=Path, help="directory of the environment")
    options = parser.parse_args()
    try:
        pinned = pins(options.list.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: cannot read {options.list}: {error}", file=sys.stderr)
        return 2
    if not pinned:
        print(f"error: {options.list} has no line NAME==VERSION", file=sys.stderr)
        return 2
    try:
        make(pinned, options.environment)
    except subprocess.CalledProcessError:
        print("error: pip cannot install these versions: it says why, above", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

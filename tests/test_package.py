"""What is installed: the library, its assets and the mark that it is typed."""

import tomllib
from pathlib import Path

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "src" / "gpt2_tuning"


def test_every_file_that_is_not_code_is_package_data():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["gpt2_tuning"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    there = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert there == shipped
    assert PACKAGE / "py.typed" in shipped
    assert PACKAGE / "assets" / "vocab.bpe" in shipped

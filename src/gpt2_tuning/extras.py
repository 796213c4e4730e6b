"""Packages that the core does without: an extra holds each, and a line says which is missing."""

import importlib.util

from gpt2_tuning.errors import UserError

MODULES = {
    "datasets": "datasets",
    "rouge": "rouge_score",
    "excel": "openpyxl",
    "conversations": "jinja2",
    "chat": "gradio",
}
"""The module of each extra that the scripts can use; pyproject.toml has the extras."""


def is_installed(extra: str) -> bool:
    """Whether the module of an extra could be imported; that it is not imported here saves time."""
    return importlib.util.find_spec(MODULES[extra]) is not None


def how_to_install(extra: str) -> str:
    """Says what is missing, and two commands that bring it: one for a copy of the repository."""
    package = MODULES[extra].replace("_", "-")
    return (
        f"the package {package}, which is not installed: "
        f'pip install -e ".[{extra}]" at the top of the repository, or pip install {package}'
    )


def check_installed(extra: str, purpose: str) -> None:
    """Raises UserError, naming the extra and what it is for, where it is not installed."""
    if not is_installed(extra):
        raise UserError(f"{purpose} needs {how_to_install(extra)}")

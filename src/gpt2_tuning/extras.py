"""Packages that the core does without: an extra holds each, and a line says which is missing."""

import importlib.util

from gpt2_tuning.errors import UserError

MODULES = {
    "datasets": "datasets",
    "rouge": "rouge_score",
    "excel": "openpyxl",
    "conversations": "jinja2",
    "serve": "fastapi uvicorn prometheus_client",
    "chat": "gradio",
}
"""The modules of each extra that the scripts can use; pyproject.toml has the extras."""


def missing(extra: str) -> list[str]:
    """The modules of an extra that could not be imported; to import none here saves time."""
    return [name for name in MODULES[extra].split() if importlib.util.find_spec(name) is None]


def is_installed(extra: str) -> bool:
    """Whether all modules of an extra could be imported."""
    return not missing(extra)


def how_to_install(extra: str) -> str:
    """Says what is missing, and two commands that bring it: one for a copy of the repository."""
    packages = [name.replace("_", "-") for name in missing(extra) or MODULES[extra].split()]
    package, plural = " ".join(packages), len(packages) > 1
    return (
        f"the package{'s' * plural} {package}, which {'are' if plural else 'is'} not installed: "
        f'pip install -e ".[{extra}]" at the top of the repository, or pip install {package}'
    )


def check_installed(extra: str, purpose: str) -> None:
    """Raises UserError, naming the extra and what it is for, where it is not installed."""
    if not is_installed(extra):
        raise UserError(f"{purpose} needs {how_to_install(extra)}")

"""Makes the notebooks, runs them on samples and stores what they show: `make notebooks`.

With --check they are run only, and nothing is stored: `make notebooks-colab`. The tests run a short
form of them the same way.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import build_notebooks
import nbformat
from nbclient import NotebookClient
from nbformat import v4

LARGEST = 500_000
"""Bytes that a notebook with its outputs may have."""


def execute(
    notebook: nbformat.NotebookNode, directory: Path, settings: str = ""
) -> nbformat.NotebookNode:
    """The notebook with its outputs, once every cell has run in `directory`.

    Args:
        notebook: from `build_notebooks.build`; it is changed.
        directory: where it runs, empty.
        settings: code that runs after the first cell of code, which holds the settings.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    # A kernel without widgets says so, with the path of its installation, which nobody needs.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    if settings:
        first = next(n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        notebook.cells.insert(first + 1, v4.new_code_cell(settings))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(directory)}})
    return client.execute()


def without_times(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what is another in every run and means nothing to its readers."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def store(notebook: nbformat.NotebookNode, path: Path) -> int:
    """Writes the notebook and returns its size in bytes.

    Raises:
        ValueError: it is larger than a notebook may be.
    """
    notebook.metadata[build_notebooks.RAN] = build_notebooks.digest(notebook)
    text = nbformat.writes(without_times(notebook)) + "\n"
    if len(text.encode()) > LARGEST:
        raise ValueError(f"{path} would have {len(text.encode()):,} bytes")
    return path.write_text(text, encoding="utf-8")


def main() -> int:
    """Runs all of them, or those that are named, and stores them unless they are checked only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(build_notebooks.TASKS)}")
    parser.add_argument("--check", action="store_true", help="store nothing")
    options = parser.parse_args()
    repository = build_notebooks.repository_of(build_notebooks.HERE.parent / "pyproject.toml")
    for task in options.tasks or build_notebooks.TASKS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            notebook = execute(build_notebooks.build(task, repository), Path(directory))
        if not options.check:
            store(notebook, build_notebooks.path_of(task))
        print(f"{task}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

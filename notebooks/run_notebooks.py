"""Runs the notebooks on the bundled sample and stores what they show: `make notebooks`.

The tests run them the same way, without storing.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
LARGEST = 300_000
"""Bytes that a notebook with its outputs may have."""


def execute(path: Path, directory: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, once every cell has run in `directory`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    # A kernel without widgets says so, with the path of its installation, which nobody needs.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(directory)}})
    return client.execute()


def without_times(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what is another in every run and means nothing to its readers."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> int:
    """Runs and stores all of them, or those that are named."""
    for path in map(Path, sys.argv[1:] or NOTEBOOKS):
        with tempfile.TemporaryDirectory() as directory:
            notebook = without_times(execute(path, Path(directory)))
        text = nbformat.writes(notebook) + "\n"
        if len(text) > LARGEST:
            raise ValueError(f"{path} would have {len(text):,} bytes")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

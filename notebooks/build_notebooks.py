"""Makes the notebooks from the pages in sources/: `make notebooks` does it before it runs them.

A page is Markdown. Each of its Python fences becomes a code cell, the text between two of them a
text cell. `<!-- shared: NAME -->` stands for the section of that name in shared.md, in which @task@
is the page's name and @repository@ the address of the repository: `Repository` of [project.urls] in
pyproject.toml, and nothing where it has none. With one on GitHub every page begins with the badge
that opens it in Colab; after a change of the address, run this alone.
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from nbformat import v4

HERE = Path(__file__).parent
SOURCES = HERE / "sources"
SHARED = "shared.md"
TASKS = ("classification", "entailment", "instruction", "text")

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^<!-- section: (.+) -->$", re.MULTILINE)
PLACE = re.compile(r"^<!-- shared: (.+) -->$", re.MULTILINE)
RAN = "ran"
"""Metadata of a stored notebook: the digest of the code whose outputs it shows."""
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
COLAB = "https://colab.research.google.com/github"


def repository_of(pyproject: Path) -> str:
    """The repository's address as pyproject.toml has it, or an empty text."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").removesuffix("/").removesuffix(".git")


def badge(repository: str, name: str) -> str:
    """The line that opens a notebook in Colab, which knows GitHub's addresses; else nothing."""
    address = urlsplit(repository)
    if address.hostname != "github.com":
        return ""
    return f"{BADGE}({COLAB}{address.path}/blob/main/notebooks/{name})\n\n"


def sections(shared: str) -> dict[str, str]:
    """The sections of shared.md by their names."""
    _, *parts = SECTION.split(shared)
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def page(task: str, repository: str) -> str:
    """The text of a notebook, whole.

    Raises:
        KeyError: shared.md has no section that it names.
    """
    shared = sections((SOURCES / SHARED).read_text(encoding="utf-8"))
    text = (SOURCES / f"{task}.md").read_text(encoding="utf-8")
    text = PLACE.sub(lambda found: shared[found[1]], text)
    text = text.replace("@task@", task).replace("@repository@", repository)
    return badge(repository, path_of(task).name) + text


def path_of(task: str) -> Path:
    """Where the notebook of a task lies."""
    return HERE / f"{task}_tuning.ipynb"


def build(task: str, repository: str) -> nbformat.NotebookNode:
    """The notebook of a task, not run yet. Same pages, same bytes."""
    cells = []
    for place, part in enumerate(FENCE.split(page(task, repository))):
        if part.strip():
            make = v4.new_code_cell if place % 2 else v4.new_markdown_cell
            cells.append(make(part.strip(), id=f"cell-{len(cells)}"))
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "colab": {"provenance": []},
    }
    return v4.new_notebook(cells=cells, metadata=metadata)


def digest(notebook: nbformat.NotebookNode) -> str:
    """sha256 over the code of a notebook, but for the cell that holds the repository's address."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    kept = [source for source in code if not source.startswith("REPOSITORY = ")]
    return hashlib.sha256("\0".join(kept).encode()).hexdigest()


def with_outputs(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """The notebook with what the stored one shows, for the cells whose code is the same."""
    if path.is_file():
        old = nbformat.read(path, as_version=4)
        notebook.metadata[RAN] = old.metadata.get(RAN)
        shown = {cell.source: cell for cell in old.cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.source in shown:
                cell.outputs = shown[cell.source].outputs
                cell.execution_count = shown[cell.source].execution_count
    return notebook


def main() -> int:
    """Writes all of them anew, with the outputs that they have."""
    repository = repository_of(HERE.parent / "pyproject.toml")
    for task in TASKS:
        notebook = with_outputs(build(task, repository), path_of(task))
        path_of(task).write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    print(f"repository: {repository or 'none in pyproject.toml, so no badge'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

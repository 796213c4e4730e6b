"""Where things are kept unless a flag says otherwise, whatever the working directory."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
"""Files that come with the package: the vocabulary and the sample data sets."""


def repository_top() -> Path:
    """The repository this package is installed from, or else the working directory."""
    top = Path(__file__).parents[2]
    return top if (top / "pyproject.toml").is_file() else Path.cwd()


def dataset_dir(task: str) -> Path:
    """Where a task's prepared data goes: tfrecords/<task>."""
    return repository_top() / "tfrecords" / task


def run_dir(task: str, name: str) -> Path:
    """Where a run of a task goes: experiments/runs/<task>/<name>."""
    return repository_top() / "experiments" / "runs" / task / name

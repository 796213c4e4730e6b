"""Where things are kept unless a flag says otherwise, and how the tasks' steps are called there."""

from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

ASSETS = Path(__file__).parent / "assets"
"""Files that come with the package: the vocabulary and the sample data sets."""
PROGRAM = "gpt2-tuning"
"""The installed command."""
SCRIPTS = {"prepare": "prep_dataset.py", "train": "train.py", "test": "test.py"}
"""What a checkout calls the steps of a task."""


@runtime_checkable
class WithPlaces(Protocol):
    """Options with flags of directories that have a default place."""

    PLACES: ClassVar[tuple[str, ...]]


def in_checkout() -> bool:
    """Whether the package is that of a checkout, so that there are scripts beside it."""
    source = Path(__file__).parents[1]
    return source.name == "src" and (source.parent / "pyproject.toml").is_file()


def repository_top() -> Path:
    """The repository this package is installed from, or else the working directory."""
    return Path(__file__).parents[2] if in_checkout() else Path.cwd()


def dataset_dir(task: str) -> Path:
    """Where a task's prepared data goes: tfrecords/<task>."""
    return repository_top() / "tfrecords" / task


def run_dir(task: str, name: str) -> Path:
    """Where a run of a task goes: experiments/runs/<task>/<name>."""
    return repository_top() / "experiments" / "runs" / task / name


def note_on_places(options: object) -> str:
    """What is to be said of directories that were not given; nothing in a checkout, as ever."""
    if in_checkout() or not isinstance(options, WithPlaces):
        return ""
    left_out = [f"--{name}" for name in options.PLACES if getattr(options, name) is None]
    if not left_out:
        return ""
    return (
        f"without {' and '.join(left_out)}, tfrecords and experiments/runs are those below the "
        f"working directory, {Path.cwd()}"
    )


def step_command(step: str, task: str) -> str:
    """How a user starts a step (`prepare`, `train` or `test`) of a task where this runs."""
    if in_checkout():
        return f"python {task}_tuning/{SCRIPTS[step]}"
    return f"{PROGRAM} {step} {task}"

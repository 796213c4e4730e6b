"""How much each class counts in a classifier's loss, where some are rare."""

from pathlib import Path

import numpy as np

from gpt2_tuning.checks import is_number, shown
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.small_files import read_json, read_yaml

BALANCED = "balanced"
MOST = 1e6
"""Of a weight, and of one over it."""


def class_weights(wanted: str | None, metadata: Metadata) -> np.ndarray | None:
    """A weight for each class, float32 [classes], as `--class_weights` says; None without it.

    `balanced` is rows / (classes x rows of the class) of the train split, as scikit-learn has it.

    Raises:
        UserError: a class has no row to train on, or the file is none that names every class.
    """
    if wanted is None:
        return None
    names = metadata.label_names or []
    if wanted != BALANCED:
        return np.array(weights_of_file(Path(wanted), names), np.float32)
    counts = np.array(metadata.label_counts("train"), np.float64)
    if not counts.all():
        missing = names[int(np.argmin(counts))]
        raise UserError(
            f"--class_weights balanced: the train split has no row of class {missing!r}: add some, "
            "or give the weights in a file"
        )
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)


def weights_of_file(path: Path, names: list[str]) -> list[float]:
    """The weights of these classes in a JSON or YAML file, an object from class to number.

    Raises:
        UserError: it cannot be read, or does not have a number for each class and no other.
    """
    flag = f"--class_weights {path}"
    if not path.exists():
        raise UserError(f"{flag}: no such file: give {BALANCED}, or a file of class: weight")
    if path.suffix == ".json":
        content = read_json(path, "a file of weights")
    else:
        content = read_yaml(path, flag) or {}
    if any(isinstance(name, bool) for name in content):
        raise UserError(f"{flag}: to YAML yes, no, on and off are no texts: write them in quotes")
    found = {str(name): value for name, value in content.items()}
    for name in names:
        if name not in found:
            raise UserError(f"{flag} has no weight for class {name!r}: it needs one for each")
    for name, value in found.items():
        if name not in names:
            raise UserError(f"{flag}: there is no class {shown(name)}: {', '.join(names)}")
        if not is_number(value) or not 1 / MOST <= value <= MOST:
            raise UserError(
                f"{flag}: the weight of {name!r} must be a number above 0, from {1 / MOST:g} to "
                f"{MOST:g}, not {shown(value)}"
            )
    return [float(found[name]) for name in names]


def in_words(weights: np.ndarray, names: list[str], most: int = 20) -> str:
    """The weights by class, for people; of many classes the first ones."""
    pairs = zip(names[:most], weights, strict=False)
    listed = ", ".join(f"{name} {weight:.3g}" for name, weight in pairs)
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")

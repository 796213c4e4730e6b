"""What a run's directory may hold, and how a run makes room for the one that overwrites it.

A run that is overwritten is set aside inside its directory until the new one has saved its first
checkpoint, so that one that fails before has cost nothing.
"""

import os
import shutil
from pathlib import Path

import yaml

from gpt2_tuning.data.metadata import METADATA_FILE, read_content
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import Tree, foreign_entry

OPTIONS_FILE = "options.yaml"
CLAIM = f".{OPTIONS_FILE}.partial"
"""What a run writes first: whoever makes this file has the directory."""
ASIDE = ".replaced"
"""Holds the run that was there before, until the new one has a checkpoint."""
CHECKPOINTS = "checkpoints"
ADAPTER, MODEL, BASE = "adapter", "model", "base"
"""What a run leaves: an adapter or the tuned model, and its base if that was random."""
LAST_TO_GO = (CHECKPOINTS, BASE, ADAPTER, MODEL)

CHECKPOINT_NAME = r"step-[0-9]{8,}"
BEST_NAME = r"best-[0-9]{4,}\.safetensors"
CHECKPOINT: Tree = {r"progress\.json": None, r"variables\.safetensors": None}
HUGGING_FACE: Tree = {
    r"config\.json": None,
    r"model\.safetensors": None,
    r"(vocab|tokenizer|tokenizer_config)\.json": None,
    r"merges\.txt": None,
}
OWN_RUN: dict[str, Tree | None] = {
    r"(metadata|validation|test|seeds|weights)\.json": None,
    r"options\.yaml": None,
    r"metrics\.csv": None,
    r"README\.md": None,
    r"[a-z_]+\.png": None,
    r"\.[a-z_]+\.[a-z]+\.partial": None,  # of a small file, in a process that was killed
    "tensorboard": {r"events\.out\.tfevents\..+": None},
    CHECKPOINTS: {CHECKPOINT_NAME: CHECKPOINT, BEST_NAME: None},
    ADAPTER: {r"adapter_config\.json": None, r"adapter_model\.safetensors": None},
    MODEL: HUGGING_FACE,
    BASE: HUGGING_FACE,
}
OWN_RUN[r"seed-[0-9]+"] = OWN_RUN  # of a training with several seeds
OWN_RUN[r"\.replaced"] = OWN_RUN


def check_overwritable(run_dir: Path) -> None:
    """Raises UserError unless all that a directory holds was written by a run.

    It is known by its options.yaml and its metadata.json; a link is not ours.
    """
    if not is_run(run_dir) and not is_run(run_dir / ASIDE):
        raise UserError(f"{run_dir} is not a run, so --overwrite leaves it alone")
    if found := foreign_entry(run_dir, OWN_RUN):
        raise UserError(
            f"{run_dir} holds {found.relative_to(run_dir)}, which no run wrote, so --overwrite "
            "leaves it alone: move that file, or choose another --output_dir"
        )


def is_run(run_dir: Path) -> bool:
    """Whether a directory holds the two files that a run begins with, both of them ours."""
    try:
        settings = yaml.safe_load((run_dir / OPTIONS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    ours = isinstance(settings, dict) and {"model_size", "epochs", "seed"} <= settings.keys()
    return ours and read_content(run_dir) is not None


def is_begun(run_dir: Path) -> bool:
    """Whether there is more in a directory than a process left that was killed as it began one."""
    if not run_dir.is_dir():
        return run_dir.exists()
    names = {path.name for path in run_dir.iterdir()}
    left = CLAIM in names and names <= {CLAIM, METADATA_FILE, f".{METADATA_FILE}.partial"}
    return bool(names) and not left


def has_weights(run_dir: Path) -> bool:
    """Whether a run got as far as a checkpoint, or has left a model; its seeds' runs count."""
    places = (f"{CHECKPOINTS}/step-*", ADAPTER, MODEL)
    return any(
        any(run_dir.glob(pattern)) for place in places for pattern in (place, f"seed-*/{place}")
    )


# --- setting aside; only inside the run's lock -------------------------------------------------


def set_aside(run_dir: Path) -> None:
    """Moves the run that is there out of the way, its options.yaml first: see `settle`.

    One that has no weights yet is nothing to go back to and is removed; what it had set aside
    itself stays.
    """
    aside = run_dir / ASIDE
    if aside.exists() and not has_weights(run_dir):
        remove_run(run_dir)
        return
    drop_aside(run_dir)
    aside.mkdir()
    for path in options_first(run_dir):
        os.rename(path, aside / path.name)


def settle(run_dir: Path) -> None:
    """After a kill: without options.yaml the run set aside was moved in part, and comes back."""
    if (run_dir / ASIDE).is_dir() and not (run_dir / OPTIONS_FILE).exists():
        bring_back(run_dir)


def undo(run_dir: Path) -> bool:
    """Has the run that was set aside take the place of one that has no weights.

    Returns:
        Whether there was such a run.
    """
    if not (run_dir / ASIDE).is_dir() or has_weights(run_dir):
        return False
    remove_run(run_dir)
    bring_back(run_dir)
    return True


def take_away(run_dir: Path, directory_too: bool) -> None:
    """Removes a run that has no weights, unless its directory holds what no run wrote."""
    if has_weights(run_dir) or foreign_entry(run_dir, OWN_RUN):
        return
    remove_run(run_dir)
    if directory_too:
        run_dir.rmdir()


def bring_back(run_dir: Path) -> None:
    """Moves the run that was set aside to where it was, its options.yaml last."""
    for path in reversed(options_first(run_dir / ASIDE)):
        os.replace(path, run_dir / path.name)
    (run_dir / ASIDE).rmdir()


def drop_aside(run_dir: Path) -> None:
    """Removes the run that was set aside, if there is one: the new one has its own weights now."""
    if (run_dir / ASIDE).is_dir():
        remove_run(run_dir / ASIDE)
        (run_dir / ASIDE).rmdir()


def remove_run(run_dir: Path) -> None:
    """Removes a run of ours but for what it set aside: its weights late, options.yaml at last."""
    others = reversed(options_first(run_dir))
    for path in sorted(others, key=lambda path: path.name in LAST_TO_GO):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != OPTIONS_FILE:
            path.unlink()
    (run_dir / OPTIONS_FILE).unlink(missing_ok=True)


def options_first(run_dir: Path) -> list[Path]:
    """What a run's directory holds but for what is set aside in it: options.yaml, then the rest."""
    found = [path for path in sorted(run_dir.iterdir()) if path.name != ASIDE]
    return sorted(found, key=lambda path: path.name != OPTIONS_FILE)

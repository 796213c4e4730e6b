"""What a run's directory may hold, and how a run makes room for the one that overwrites it.

A run that is overwritten is set aside inside its directory until the new one has finished an epoch,
so that one that fails before has cost nothing.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2_tuning.data.file_tokenizer import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from gpt2_tuning.data.metadata import METADATA_FILE, read_content
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import Tree, foreign_entry, is_workplace, named_in
from gpt2_tuning.locks import in_use
from gpt2_tuning.runs.settings import OPTIONS_FILE
from gpt2_tuning.small_files import read_yaml

METRICS_FILE = "metrics.csv"
DATA_FILES = (METADATA_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)
"""Copies of what lies beside the prepared data."""
CLAIM = f".{OPTIONS_FILE}.partial"
"""What a run writes first: whoever makes this file has the directory."""
ASIDE = ".replaced"
"""Holds the run that was there before, until the new one has finished an epoch."""
CHECKPOINTS = "checkpoints"
ADAPTER, MODEL, BASE = "adapter", "model", "base"
"""What a run leaves: an adapter or the tuned model, and its base if that was random."""
BOARD, TRAIN, VALIDATION, RESULT = "tensorboard", "train", "validation", "result"
"""TensorBoard's log, and its parts."""
LAST_TO_GO = (CHECKPOINTS, BASE, ADAPTER, MODEL)

CHECKPOINT_NAME = r"step-[0-9]{8,}"
BEST_NAME = r"best-[0-9]{4,}\.safetensors"
EVENTS_NAME = r"events\.out\.tfevents\..+"
CHECKPOINT: Tree = {
    r"progress\.json": None,
    r"variables\.safetensors": None,
    r"\.progress\.json\.partial": None,
}
EVENTS: Tree = {EVENTS_NAME: None}
HUGGING_FACE: Tree = {
    r"config\.json": None,
    r"model\.safetensors": None,
    r"(vocab|tokenizer|tokenizer_config)\.json": None,
    r"merges\.txt": None,
}
OWN_RUN: dict[str, Tree | None] = {
    r"(metadata|validation|test|seeds|weights|tokenizer|tokenizer_config)\.json": None,
    r"options\.yaml": None,
    r"metrics\.csv": None,
    r"README\.md": None,
    r"(curves|confusion|(confusion|calibration)_(validation|test))\.png": None,
    r"\.[a-z_]+\.[a-z]+\.partial": None,  # of a small file, in a process that was killed
    BOARD: {**EVENTS, TRAIN: EVENTS, VALIDATION: EVENTS, RESULT: EVENTS},
    CHECKPOINTS: {CHECKPOINT_NAME: CHECKPOINT, BEST_NAME: None},
    ADAPTER: {r"adapter_config\.json": None, r"adapter_model\.safetensors": None},
    MODEL: HUGGING_FACE,
    BASE: HUGGING_FACE,
}
OWN_SEEDS: Tree = {**OWN_RUN, r"seed-[0-9]+": OWN_RUN}
"""Of a training with several seeds."""
OWN: Tree = {**OWN_SEEDS, re.escape(ASIDE): OWN_SEEDS}


def check_overwritable(run_dir: Path) -> None:
    """Raises UserError unless all that a directory holds was written by a run.

    It is known by its options.yaml and its metadata.json; a link is not ours, nor is a seed's
    directory without them, or where there were not several seeds.
    """
    settings = settings_of_run(run_dir) or settings_of_run(run_dir / ASIDE)
    if settings is None:
        raise UserError(f"{run_dir} is not a run, so --overwrite leaves it alone")
    found = foreign_entry(run_dir, OWN)
    for place in (run_dir, run_dir / ASIDE):
        several = (settings_of_run(place) or {}).get("seeds", 1) != 1
        for seed in sorted(place.glob("seed-*")):
            if not several or (is_begun(seed) and settings_of_run(seed) is None):
                found = found or seed
    if found:
        raise UserError(
            f"{run_dir} holds {found.relative_to(run_dir)}, which no run wrote, so --overwrite "
            "leaves it alone: move that, or choose another --output_dir"
        )


def check_no_links(run_dir: Path) -> None:
    """Raises UserError where a directory of a run is a link."""
    for name in (*LAST_TO_GO, BOARD):
        refuse_link(run_dir / name)


def refuse_link(directory: Path) -> None:
    """Raises UserError where a run's directory is a link: nothing behind it is to be replaced."""
    if directory.is_symlink():
        raise UserError(
            f"{directory} is a link: a run replaces and removes files, and does so in directories "
            "of its own only; put the directory itself there"
        )


def settings_of_run(run_dir: Path) -> dict[str, Any] | None:
    """A run's flags; None unless both files that a run begins with are there and are ours."""
    try:
        settings = read_yaml(run_dir / OPTIONS_FILE)
    except (OSError, UserError):
        return None
    if settings is None or not {"model_size", "epochs", "seed"} <= settings.keys():
        return None
    return settings if read_content(run_dir) is not None else None


def is_begun(run_dir: Path) -> bool:
    """Whether there is more in a directory than a process left that was killed as it began one."""
    if not run_dir.is_dir():
        return run_dir.exists()
    names = {path.name for path in run_dir.iterdir()}
    left = CLAIM in names and names <= {CLAIM, f".{METADATA_FILE}.partial", *DATA_FILES}
    return bool(names) and not left


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run, or one of its seeds', got as far as a checkpoint or a model."""
    return holds(run_dir, f"{CHECKPOINTS}/step-*", ADAPTER, MODEL)


def has_results(run_dir: Path) -> bool:
    """Whether a run, or one of its seeds', finished an epoch, so that it has weights to use."""
    return holds(run_dir, f"{CHECKPOINTS}/best-*", ADAPTER, MODEL)


def holds(run_dir: Path, *patterns: str) -> bool:
    """Whether there is anything of these names in a run, or in one of its seeds'."""
    return any(any(run_dir.glob(f"{at}{name}")) for name in patterns for at in ("", "seed-*/"))


def is_own(path: Path) -> bool:
    """Whether a run writes a file of this name in its directory; a link it does not."""
    return bool(named_in(OWN_RUN, path.name)) and not path.is_symlink()


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# --- setting aside; only inside the run's lock -------------------------------------------------


def set_aside(run_dir: Path) -> None:
    """Moves the run that is there out of the way, its options.yaml first: see `settle`.

    One without results is nothing to go back to where another was set aside before, and is removed.
    """
    aside = run_dir / ASIDE
    if aside.exists() and not has_results(run_dir):
        remove_run(run_dir)
        return
    drop_aside(run_dir)
    aside.mkdir(exist_ok=True)
    for path in options_first(run_dir):
        os.rename(path, aside / path.name)


def settle(run_dir: Path) -> None:
    """After a kill: without options.yaml the run set aside was moved in part, and comes back."""
    if (run_dir / ASIDE).is_dir() and not (run_dir / OPTIONS_FILE).exists():
        bring_back(run_dir)


def undo(run_dir: Path) -> bool:
    """Has the run that was set aside take the place of one that has no checkpoint.

    Returns:
        Whether there was such a run.
    """
    if not (run_dir / ASIDE).is_dir() or has_checkpoint(run_dir):
        return False
    remove_run(run_dir)
    bring_back(run_dir)
    return True


def take_away(run_dir: Path, directory_too: bool) -> None:
    """Removes a run that has no checkpoint, and its directory unless something else is in it."""
    if has_checkpoint(run_dir):
        return
    remove_run(run_dir)
    if directory_too:
        with contextlib.suppress(OSError):
            run_dir.rmdir()


def bring_back(run_dir: Path) -> None:
    """Moves the run that was set aside to where it was, its options.yaml last."""
    for path in reversed(options_first(run_dir / ASIDE)):
        move(path, run_dir / path.name)
    (run_dir / ASIDE).rmdir()


def move(path: Path, target: Path) -> None:
    """Renames a file or directory; into a directory that is there its entries are moved."""
    if not target.is_dir():
        os.replace(path, target)
        return
    for entry in list(path.iterdir()):
        move(entry, target / entry.name)
    path.rmdir()


def drop_aside(run_dir: Path) -> None:
    """Removes the run that was set aside, if there is one: the new one has its own weights now."""
    if (run_dir / ASIDE).is_dir():
        remove_run(run_dir / ASIDE)
        with contextlib.suppress(OSError):  # somebody put a file of his own there
            (run_dir / ASIDE).rmdir()


def remove_run(run_dir: Path) -> None:
    """Removes what a run wrote, its weights late and options.yaml at last.

    What it set aside stays, and so does whatever else came into the directory meanwhile.
    """
    others = reversed(options_first(run_dir))
    for path in sorted(others, key=lambda path: path.name in LAST_TO_GO):
        if path.name != OPTIONS_FILE:
            remove_own(path, OWN_SEEDS)
    (run_dir / OPTIONS_FILE).unlink(missing_ok=True)


def remove_own(path: Path, own: Tree) -> None:
    """Removes a file or directory if `own` has its name, and in a directory what is named there."""
    known = named_in(own, path.name)
    if path.is_symlink() or not (known or is_workplace(path)):
        return
    if not known:
        shutil.rmtree(path)
    elif known[0] is None:
        if path.is_file():
            path.unlink()
    elif path.is_dir():
        for entry in list(path.iterdir()):
            remove_own(entry, known[0])
        with contextlib.suppress(OSError):  # something else is in it
            path.rmdir()


def options_first(run_dir: Path) -> list[Path]:
    """What is in a run's directory but for its claim and what is set aside: options.yaml first."""
    found = [path for path in sorted(run_dir.iterdir()) if path.name not in (ASIDE, CLAIM)]
    return sorted(found, key=lambda path: path.name != OPTIONS_FILE)


@contextlib.contextmanager
def seeds_in_use(run_dir: Path) -> Iterator[None]:
    """Inside the block no other process may train a seed of the run.

    Raises:
        BlockingIOError: one does already.
    """
    with contextlib.ExitStack() as stack:
        for seed in run_dir.glob("seed-*"):
            if seed.is_dir():
                stack.enter_context(in_use(seed))
        yield

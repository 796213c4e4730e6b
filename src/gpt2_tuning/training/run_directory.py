"""The directory of a run: what it was started with, what it left, and how to find it again."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import METADATA_FILE, Metadata, read_metadata
from gpt2_tuning.data.tfrecords import Records, read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import atomic_directory, in_use, write_text
from gpt2_tuning.training.cluster import is_chief
from gpt2_tuning.training.options import TrainOptions

OPTIONS_FILE = "options.yaml"
NOT_REPEATED = ("resume", "overwrite", "config", "output_dir")
"""Flags that say how to start a run rather than what it is."""
MAY_CHANGE = ("dataset_dir", "checkpoint_steps", "strategy", "logical_devices", "rematerialize")
"""Flags that a resumed run may have otherwise: where its data lies, which is compared by content,
when it saves, and which devices compute the same sums, and in how much memory."""
REASONS = {
    "epochs": " (the learning rate falls to 0 over all epochs, so more of them are another run)",
}


def check_run_dir(task: str, options: TrainOptions, metadata: Metadata) -> Path:
    """Where the run goes, once it is sure that it may; writes nothing.

    With `--resume` the directory must hold a run with the same flags and data; with `--overwrite`
    it may hold any other run; else it must be empty or not there. Of several workers the chief
    alone looks at it then, since it may be at work in it before the others have started.

    Raises:
        UserError: the directory may not be used so.
    """
    run_dir = options.output_dir or paths.run_dir(task, default_name(options))
    chief = is_chief(options.strategy)
    if chief:
        check_writable(run_dir)
    if options.resume:
        check_same_run(run_dir, as_settings(options), metadata)
    elif chief and run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        if not options.overwrite:
            raise UserError(f"{run_dir} exists: use --resume, --overwrite or another --output_dir")
        if not (run_dir / OPTIONS_FILE).is_file():
            raise UserError(f"{run_dir} is not a run, so --overwrite leaves it alone")
    return run_dir


def check_writable(run_dir: Path) -> None:
    """Raises UserError where a run could not write, or another process is writing already."""
    nearest = run_dir.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {nearest}: give another --output_dir")
    if nearest == run_dir.absolute():
        with training_in(run_dir):
            pass


@contextlib.contextmanager
def training_in(run_dir: Path) -> Iterator[None]:
    """Inside the block no other process may train in the directory.

    Raises:
        UserError: one does already.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(in_use(run_dir))
        except BlockingIOError as error:
            raise UserError(f"another process is training in {run_dir}") from error
        yield


def start_run(run_dir: Path, options: TrainOptions, metadata: Metadata) -> None:
    """Makes the run directory, with options.yaml and a copy of metadata.json.

    It appears with both files or not at all, in the place of a run that is overwritten. A resumed
    run's is there already; its options.yaml follows what may change.
    """
    settings = yaml.safe_dump(as_settings(options), sort_keys=False, allow_unicode=True)
    if options.resume:
        if (run_dir / OPTIONS_FILE).read_text(encoding="utf-8") != settings:
            write_text(run_dir / OPTIONS_FILE, settings)
        return
    with atomic_directory(run_dir) as partial:
        write_text(partial / METADATA_FILE, metadata.to_json())
        write_text(partial / OPTIONS_FILE, settings)


def default_name(options: TrainOptions) -> str:
    """A run's name where the user gives none, such as 124M-lora8-20260102-030405."""
    if options.resume or options.overwrite:
        raise UserError("--resume and --overwrite need the --output_dir of a run")
    kind = f"lora{options.lora_rank}" if options.lora_rank else "full"
    return f"{options.model_size}-{kind}-{datetime.now():%Y%m%d-%H%M%S}"


def as_settings(options: TrainOptions) -> dict[str, Any]:
    """The flags as `--config` reads them."""
    settings = {}
    for name, value in dataclasses.asdict(options).items():
        if name not in NOT_REPEATED:
            plain = list(value) if isinstance(value, tuple) else value
            settings[name] = str(plain.absolute()) if isinstance(plain, Path) else plain
    return settings


def check_same_run(run_dir: Path, wanted: Mapping[str, Any], metadata: Metadata) -> None:
    """Raises UserError, naming what differs, unless a resumed run would be the same run."""
    settings = read_settings(run_dir)
    for name in wanted:
        if name not in settings:
            raise UserError(f"{run_dir / OPTIONS_FILE} is damaged: it lacks {name}")
        if settings[name] != wanted[name] and name not in MAY_CHANGE:
            raise UserError(
                f"the run was started with --{name} {settings[name]}, not {wanted[name]}: "
                f"resume it with the same flags{REASONS.get(name, '')}"
            )
    try:
        same_data = (run_dir / METADATA_FILE).read_text(encoding="utf-8") == metadata.to_json()
    except (OSError, ValueError) as error:
        raise UserError(f"{run_dir / METADATA_FILE} is missing or damaged") from error
    if not same_data:
        raise UserError("the run was started on other data than --dataset_dir holds now")


def read_settings(run_dir: Path) -> dict[str, Any]:
    """The flags a run was started with. Raises UserError when the directory is no run."""
    try:
        settings = yaml.safe_load((run_dir / OPTIONS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run_dir} is not a run: it has no readable {OPTIONS_FILE}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{run_dir / OPTIONS_FILE} holds no settings")
    return settings


def newest_run(task: str) -> Path:
    """The task's run that finished last, in the default place.

    Raises:
        UserError: there is none.
    """
    parent = paths.run_dir(task, "")
    places = ("*/model", "*/adapter", "*/seed-*/model", "*/seed-*/adapter")
    finished = [path.parent for place in places for path in parent.glob(place)]
    if not finished:
        raise UserError(f"no finished run in {parent}: give --run_dir, or train one first")
    return max(finished, key=lambda run: (run / OPTIONS_FILE).stat().st_mtime)


def split_of_run(
    run_dir: Path, metadata: Metadata, split: str, dataset_dir: Path | None
) -> Records:
    """A split of the very data that a run was tuned on.

    Args:
        run_dir: the run's directory.
        metadata: the run's copy.
        split: its name.
        dataset_dir: where the data is now; None is where it was.

    Raises:
        UserError: the data is not there, or is not the run's.
    """
    settings = read_settings(run_dir)
    directory = dataset_dir or Path(settings["dataset_dir"] or paths.dataset_dir(metadata.task))
    found = read_metadata(directory, metadata.task)
    if found.label_names != metadata.label_names:
        theirs, ours = (
            ", ".join(names or []) for names in (found.label_names, metadata.label_names)
        )
        raise UserError(f"{directory} has the classes {theirs}; the run was tuned on {ours}")
    if found != metadata:
        raise UserError(f"{directory} is not the data of this run: give --dataset_dir")
    return read_records(directory, metadata, split)

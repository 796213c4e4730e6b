"""The directory of a run: whether it may be used, how it is begun, and with which flags."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gpt2_tuning import paths
from gpt2_tuning.cluster import is_chief
from gpt2_tuning.data.metadata import METADATA_FILE, Metadata
from gpt2_tuning.errors import OutOfMemory, UserError
from gpt2_tuning.families.known import DEFAULT
from gpt2_tuning.files import check_place, naming, write_text
from gpt2_tuning.locks import in_use
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.runs import run_files
from gpt2_tuning.runs.settings import OPTIONS_FILE, read_settings
from gpt2_tuning.small_files import read_text

NOT_REPEATED = ("resume", "overwrite", "config", "output_dir")
"""Flags that say how to start a run rather than what it is."""
MAY_CHANGE = (
    *("dataset_dir", "checkpoint_steps", "keep_checkpoints"),
    *("strategy", "logical_devices", "rematerialize"),
)
"""Flags that a resumed run may have otherwise: where its data lies, which is compared by content,
when it saves and what it keeps, and which devices compute the same sums, and in how much memory."""
NEWEST = (
    *(
        "lora_layers",
        "lora_bias",
        "modules_to_save",
        "lora_plus",
        "lora_plus_ratio",
        "tune",
        "adapter",
        "continue",
    ),
    *("class_weights", "label_smoothing"),
)
"""Those of ADDED that count in no checkpoint where they have their default: some are without."""
ADDED = ("max_updates", "validate_every", "monitor", "keep_checkpoints", *NEWEST)
"""Flags that older runs lack, which went by what is the default now; their family was the default
one."""
NO_LOCKS = (
    "is on a file system without locks: see to it that no other process trains there meanwhile"
)
BACK_AGAIN = (
    "holds the run again that was to be overwritten: the new one ended before its first checkpoint"
)
REASONS = {
    "epochs": " (the learning rate falls to 0 over all epochs, so more of them are another run)",
    "max_updates": " (the learning rate falls to 0 over all of them, so more are another run)",
}


def check_run_dir(task: str, options: TrainOptions, metadata: Metadata) -> Path:
    """Where the run goes, once it looks as if it may; see `begun`, which makes sure of it.

    With `--resume` the directory must hold a run with the same flags and data; with `--overwrite`
    it may hold any other run; else it must be empty or not there. Of several workers the chief
    alone looks at it then, since it may be at work in it before the others have started.

    Raises:
        UserError: the directory may not be used so.
    """
    if options.output_dir is None:  # a name that is taken by now gets a number
        run_dir = paths.run_dir(task, default_name(options))
        check_place(run_dir.parent, "--output_dir")
        return run_dir
    run_dir = options.output_dir
    with contextlib.ExitStack() as stack:
        if is_chief(options.strategy):
            check_place(run_dir, "--output_dir")
            if run_dir.is_dir():
                stack.enter_context(training_in(run_dir))
                run_files.settle(run_dir)
        check_content(run_dir, options, metadata)
    return run_dir


def check_content(run_dir: Path, options: TrainOptions, metadata: Metadata) -> None:
    """The part of `check_run_dir` that looks into the directory."""
    if options.resume:
        check_same_run(run_dir, options, metadata)
        run_files.check_no_links(run_dir)
    elif is_chief(options.strategy) and run_files.is_begun(run_dir):
        if not options.overwrite:
            raise UserError(f"{run_dir} exists: use --resume, --overwrite or another --output_dir")
        run_files.check_overwritable(run_dir)


@contextlib.contextmanager
def training_in(run_dir: Path) -> Iterator[bool]:
    """Inside the block no other process may train in the directory.

    It yields whether that is so: False where the file system has no locks.

    Raises:
        UserError: one does already.
    """
    with contextlib.ExitStack() as stack:
        try:
            locked = stack.enter_context(in_use(run_dir))
        except BlockingIOError as error:
            raise UserError(f"another process is training in {run_dir}") from error
        yield locked


@contextlib.contextmanager
def begun(run_dir: Path, options: TrainOptions, metadata: Metadata) -> Iterator[Path]:
    """Makes the run directory, or takes over the one there, for this process alone.

    It begins with a copy of metadata.json and then options.yaml. Of processes that begin in one
    directory at the same time one goes on. A run that is overwritten comes back where the block
    fails before the new one has weights. A new one that finds too little memory before then leaves
    nothing, since it is to be started again with other flags. Of several workers the chief alone
    does all that.

    Args:
        run_dir: from `check_run_dir`; a default name that is taken by now gets a number.
        options: the flags.
        metadata: the data.

    Yields:
        The directory, which the process has to itself until the block ends.

    Raises:
        UserError: another process was sooner, or what is there may not be used so.
    """
    if not is_chief(options.strategy):
        yield run_dir
        return
    new = options.output_dir is None or not run_dir.exists()
    run_dir = made_directory(run_dir, unique=options.output_dir is None)
    with training_in(run_dir) as locked:
        if not locked:
            print(f"note: {run_dir} {NO_LOCKS}", file=sys.stderr)
        run_files.settle(run_dir)
        found = options_as_found(run_dir)
        check_content(run_dir, options, metadata)
        try:
            write_beginning(run_dir, options, metadata, locked, found)
            yield run_dir
        except BaseException as error:
            if run_files.undo(run_dir):
                print(f"note: {run_dir} {BACK_AGAIN}", file=sys.stderr)
            elif isinstance(error, OutOfMemory) and not options.resume:
                run_files.take_away(run_dir, new)
            raise


def made_directory(run_dir: Path, unique: bool) -> Path:
    """Makes a directory if it is not there; `unique` makes a new one, with a number if need be."""
    if not unique:
        Path(os.path.realpath(run_dir)).mkdir(parents=True, exist_ok=True)
        return run_dir
    numbered, number = run_dir, 1
    while True:
        try:
            numbered.mkdir(parents=True)
            return numbered
        except FileExistsError:
            number += 1
            numbered = run_dir.with_name(f"{run_dir.name}-{number}")


def options_as_found(run_dir: Path) -> tuple[int, int] | None:
    """Which options.yaml a directory has: another file's answer is another; None without one."""
    try:
        found = (run_dir / OPTIONS_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def write_beginning(
    run_dir: Path,
    options: TrainOptions,
    metadata: Metadata,
    locked: bool,
    found: tuple[int, int] | None,
) -> None:
    """Writes metadata.json and, last, options.yaml. A resumed run's follows what may change.

    Args:
        run_dir: the directory, whose content was checked.
        options: the flags.
        metadata: the data.
        locked: whether locks keep others out; else the claim alone decides.
        found: what `options_as_found` said before the check.

    Raises:
        UserError: another process was sooner, or trains a seed of the run.
    """
    settings = yaml.safe_dump(as_settings(options), sort_keys=False, allow_unicode=True)
    if options.resume:
        if read_text(run_dir / OPTIONS_FILE) != settings:
            write_text(run_dir / OPTIONS_FILE, settings)
        return
    claim = run_dir / run_files.CLAIM
    busy = f"another process is training in {run_dir}"
    if locked:  # what a process left that was killed just here
        claim.unlink(missing_ok=True)
    try:
        file = claim.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise UserError(f"{busy}; if none is, remove {claim}") from error
    try:
        with naming(run_dir / OPTIONS_FILE), file:
            file.write(settings)
        if options_as_found(run_dir) != found:  # another process had made the claim and used it
            raise UserError(busy)
        if options.overwrite and found:
            with run_files.seeds_in_use(run_dir):
                run_files.set_aside(run_dir)
        metadata.save(run_dir)
        os.replace(claim, run_dir / OPTIONS_FILE)
    except BlockingIOError as error:
        claim.unlink(missing_ok=True)
        raise UserError(f"another process is training a seed of {run_dir}") from error
    except BaseException:
        claim.unlink(missing_ok=True)
        raise


def default_name(options: TrainOptions) -> str:
    """A run's name where the user gives none, such as 124M-lora8-20260102-030405."""
    if options.resume or options.overwrite:
        raise UserError("--resume and --overwrite need the --output_dir of a run")
    base = options.pretrained or "none"
    if options.continue_ is not None:
        base = str(options.continue_)
    # A checkpoint's size is its own, which is not known yet: so it goes by its name.
    size = options.model_size if base == "none" else Path(base).resolve().name
    if base == "none" and options.family not in (None, DEFAULT):
        size = f"{options.family}-{size}"
    kind = f"lora{options.lora_rank}" if options.lora_rank else "full"
    return f"{size}-{kind}-{datetime.now():%Y%m%d-%H%M%S}"


def as_settings(options: TrainOptions) -> dict[str, Any]:
    """The flags as `--config` reads them."""
    settings = {}
    for name, value in dataclasses.asdict(options).items():
        if name not in NOT_REPEATED:
            plain = list(value) if isinstance(value, tuple) else value
            value = str(plain.absolute()) if isinstance(plain, Path) else plain
            settings[name.removesuffix("_")] = value
    return settings


def check_same_run(run_dir: Path, options: TrainOptions, metadata: Metadata) -> None:
    """Raises UserError, naming what differs, unless a resumed run would be the same run."""
    defaults = as_settings(type(options)())
    added = {name: defaults[name] for name in ADDED if name in defaults}
    settings = {**added, "family": DEFAULT, **read_settings(run_dir)}
    wanted = as_settings(options)
    for name in wanted:
        if name not in settings:
            raise UserError(
                f"{run_dir / OPTIONS_FILE} lacks {name}: it is damaged or of an earlier version, "
                "with which the run can be finished; or start it again with --overwrite"
            )
        if settings[name] != wanted[name] and name not in MAY_CHANGE:
            raise UserError(
                f"the run was started with --{name} {settings[name]}, not {wanted[name]}: "
                f"resume it with the same flags{REASONS.get(name, '')}"
            )
    try:
        same_data = read_text(run_dir / METADATA_FILE) == metadata.to_json()
    except (OSError, ValueError) as error:
        raise UserError(f"{run_dir / METADATA_FILE} is missing or damaged") from error
    if not same_data:
        raise UserError("the run was started on other data than --dataset_dir holds now")


def begun_with(options: TrainOptions, name: str) -> Any:
    """The value of a flag with which the run was begun that is resumed; None where none is found.

    A kill while the run was being set aside may have left its flags there: they come back.
    """
    if not options.resume or options.output_dir is None:
        return None
    for place in (options.output_dir, options.output_dir / run_files.ASIDE):
        if (place / OPTIONS_FILE).is_file():
            return read_settings(place).get(name)
    return None

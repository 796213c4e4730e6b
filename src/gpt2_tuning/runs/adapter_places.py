"""Where an adapter lies that a user names: a directory in PEFT's format, or a run that left one."""

from pathlib import Path
from typing import NamedTuple

from gpt2_tuning import paths
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapter_files
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.run_files import ADAPTER, BASE, MODEL
from gpt2_tuning.runs.settings import OPTIONS_FILE, base_of_run


class AdapterPlace(NamedTuple):
    """An adapter and what it belongs to."""

    directory: Path
    """Of adapter_config.json."""
    base: str | None
    """What the run that left it began from, where it is a run's."""


def adapter_place(given: Path, task: str | None = None) -> AdapterPlace:
    """Finds the adapter that a flag names.

    Args:
        given: a directory of PEFT's, a run, or with `task` the name of a run in the default place.
        task: of that run.

    Raises:
        UserError: there is none, or the run's files were changed.
    """
    if task is not None and not given.exists() and paths.run_dir(task, str(given)).is_dir():
        given = paths.run_dir(task, str(given))
    if (given / adapter_files.CONFIG_FILE).is_file():
        return AdapterPlace(given, None)
    if not (given / OPTIONS_FILE).is_file():
        what = "holds no adapter" if given.is_dir() else "is not there"
        raise UserError(
            f"--adapter {given} {what}: give a directory with {adapter_files.CONFIG_FILE}, or a "
            "run that tuned one"
        )
    if not (given / ADAPTER).is_dir():
        whole = (given / MODEL).is_dir()
        reason = "tuned its model, and no adapter" if whole else "left no adapter: did it finish?"
        raise UserError(f"--adapter {given}: the run {reason}")
    weights_record.check(given)
    kept = given / BASE
    base = str(kept.absolute()) if kept.is_dir() else base_of_run(given)
    return AdapterPlace(given / ADAPTER, base)

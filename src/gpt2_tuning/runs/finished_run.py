"""What `--run_dir` names: a run, its flags and its data, or something else, which is said."""

from pathlib import Path

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import Metadata, read_content, read_metadata, train_command
from gpt2_tuning.data.tfrecords import Records, read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapter_files
from gpt2_tuning.formats.directory import CONFIG_FILE
from gpt2_tuning.runs.settings import OPTIONS_FILE, read_settings

ANY_TASK = "classification"
"""In hints to whoever did not say which task is meant."""


def metadata_of_run(run_dir: Path, task: str | None, flag: str = "--run_dir") -> Metadata:
    """The copy of metadata.json in a run's directory.

    Args:
        run_dir: the run's directory.
        task: what it must be a run of; None is any.
        flag: by which messages name the directory.

    Raises:
        UserError: it is no run of this task; the message names the script for what it is.
    """
    if not run_dir.is_dir():
        what = "is a file, not the directory of a run" if run_dir.is_file() else "is not there"
        raise UserError(f"{flag} {run_dir} {what}: give the --output_dir of a finished training")
    content = read_content(run_dir)
    if not (run_dir / OPTIONS_FILE).is_file():
        raise UserError(f"{flag} {run_dir} {what_it_is(run_dir, task or ANY_TASK)}")
    if task and content is not None and content["task"] != task:
        raise UserError(
            f"{flag} {run_dir} is a run of {content['task']}, not of {task}: try it with "
            f"`{paths.step_command('test', content['task'])} --run_dir {run_dir}`"
        )
    return read_metadata(run_dir, task or (content or {}).get("task", ANY_TASK))


def what_it_is(directory: Path, task: str) -> str:
    """What a directory without options.yaml is, and what to do with it."""
    for outer in directory.absolute().parents[:2]:
        if (outer / OPTIONS_FILE).is_file():
            return f"is a part of a run: give {outer}"
    content = read_content(directory)
    if content is not None:
        train = train_command(content, directory)
        return f"holds prepared data, not a run: train on it with {train}"
    if (directory / adapter_files.CONFIG_FILE).is_file():
        return (
            "holds an adapter, not a run: give the run that it came from; of another library's, "
            f"a run on its base, and --adapter {directory} beside it"
        )
    if (directory / CONFIG_FILE).is_file():
        train = f"`{paths.step_command('train', task)} --pretrained {directory}`"
        return f"holds the weights of a model, not a run: tune it with {train}"
    inner = sorted(path.parent for path in directory.glob(f"*/{OPTIONS_FILE}"))
    if inner:
        return f"is not a run, but holds some: give one of them, such as {inner[0]}"
    missing = f"it has no {OPTIONS_FILE}" if any(directory.iterdir()) else "it is empty"
    return f"is not a run: {missing}; give the --output_dir of a finished training"


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
    directory = dataset_dir or Path(settings.get("dataset_dir") or paths.dataset_dir(metadata.task))
    found = read_metadata(directory, metadata.task)
    if found.label_names != metadata.label_names:
        theirs, ours = (
            ", ".join(names or []) for names in (found.label_names, metadata.label_names)
        )
        raise UserError(f"{directory} has the classes {theirs}; the run was tuned on {ours}")
    if found != metadata:
        raise UserError(f"{directory} is not the data of this run: give --dataset_dir")
    return read_records(directory, metadata, split)

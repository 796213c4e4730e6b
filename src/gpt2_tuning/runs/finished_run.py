"""What `--run_dir` names: a run, its flags and its data, or something else, which is said."""

from pathlib import Path

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import Metadata, read_content, read_metadata, train_command
from gpt2_tuning.data.tfrecords import Records, read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.runs.settings import OPTIONS_FILE, read_settings


def metadata_of_run(run_dir: Path, task: str) -> Metadata:
    """The copy of metadata.json in a run's directory.

    Raises:
        UserError: it is no run of this task; the message names the script for what it is.
    """
    if not run_dir.is_dir():
        what = "is a file, not the directory of a run" if run_dir.is_file() else "is not there"
        raise UserError(f"--run_dir {run_dir} {what}: give the --output_dir of a finished training")
    content = read_content(run_dir)
    if not (run_dir / OPTIONS_FILE).is_file():
        if (run_dir.absolute().parent / OPTIONS_FILE).is_file():
            raise UserError(
                f"--run_dir {run_dir} is a part of a run: give {run_dir.absolute().parent}"
            )
        if content is not None:
            raise UserError(
                f"--run_dir {run_dir} holds prepared data, not a run: train on it with "
                f"{train_command(content, run_dir)}"
            )
        raise UserError(f"--run_dir {run_dir} is not a run: it has no {OPTIONS_FILE}")
    if content is not None and content["task"] != task:
        raise UserError(
            f"--run_dir {run_dir} is a run of {content['task']}, not of {task}: try it with "
            f"`{paths.step_command('test', content['task'])} --run_dir {run_dir}`"
        )
    return read_metadata(run_dir, task)


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

"""What `--run_dir` names: a run of the task, or something else that is said by what it is."""

from pathlib import Path

from gpt2_tuning.data.metadata import Metadata, read_content, read_metadata, train_command
from gpt2_tuning.errors import UserError
from gpt2_tuning.paths import step_command
from gpt2_tuning.training.run_files import OPTIONS_FILE


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
            f"`{step_command('test', content['task'])} --run_dir {run_dir}`"
        )
    return read_metadata(run_dir, task)

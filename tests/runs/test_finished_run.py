"""A `--run_dir` that is no run is told what it is, and what to do with it."""

import pytest
import yaml
from lora_models import SMALL, small_model
from prepared_sets import write

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs.finished_run import metadata_of_run
from gpt2_tuning.training.run_directory import as_settings


def begin(directory):
    """Puts what a run begins with into a directory."""
    write(directory)
    (directory / "options.yaml").write_text(yaml.safe_dump(as_settings(ClassifierOptions())))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory of each kind."""
    home = tmp_path_factory.mktemp("home")
    begin(home / "run")
    (home / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    write(home / "data")
    begin(home / "runs" / "first")
    model = small_model(GPT2Classifier, SMALL, {"rank": 2})
    model.save_adapter(home / "adapter")
    model.save_pretrained(home / "base")
    (home / "empty").mkdir()
    (home / "other").mkdir()
    (home / "other" / "notes.txt").touch()
    (home / "file").touch()
    return home


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run/checkpoints", "is a part of a run: give {home}/run"),
        ("run/checkpoints/step-00000001", "is a part of a run: give {home}/run"),
        ("data", "holds prepared data, not a run: train on it with `python classification_tuning/"),
        ("runs", "is not a run, but holds some: give one of them, such as {home}/runs/first"),
        ("adapter", "holds an adapter, not a run: give the run that it came from"),
        ("base", "train.py --pretrained {home}/base`"),
        ("empty", "is not a run: it is empty; give the --output_dir of a finished training"),
        ("other", "is not a run: it has no options.yaml; give the --output_dir of a"),
        ("file", "is a file, not the directory of a run: give the --output_dir of a"),
        ("nowhere", "is not there: give the --output_dir of a finished training"),
    ],
)
def test_what_is_no_run_is_told_what_it_is(home, name, message):
    with pytest.raises(UserError) as caught:
        metadata_of_run(home / name, "classification")
    assert f"--run_dir {home / name} " in str(caught.value)
    assert message.format(home=home) in str(caught.value)


def test_a_run_of_another_task_names_the_script_that_tries_it(home):
    assert metadata_of_run(home / "run", "classification").task == "classification"
    with pytest.raises(UserError, match=r"is a run of classification, not of text: try it with"):
        metadata_of_run(home / "run", "text")

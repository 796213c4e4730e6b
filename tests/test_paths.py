from pathlib import Path

import pytest

from classification_tuning import prep_dataset, test, train
from gpt2_tuning import cli, paths


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The library is that of a wheel, and the working directory an empty one."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "a/b/site-packages/gpt2_tuning/paths.py"
    monkeypatch.setattr(paths, "__file__", str(place))
    return tmp_path


def test_default_directories_are_at_the_repositorys_top_whatever_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    top = Path(__file__).parents[1]
    assert paths.repository_top() == top
    assert paths.dataset_dir("classification") == top / "tfrecords" / "classification"
    assert paths.run_dir("entailment", "a") == top / "experiments" / "runs" / "entailment" / "a"


def test_outside_a_repository_the_working_directory_serves(installed):
    assert paths.dataset_dir("text") == installed / "tfrecords" / "text"
    assert paths.run_dir("text", "a") == installed / "experiments" / "runs" / "text" / "a"


def test_another_projects_directory_is_no_checkout_of_ours(installed):
    top = Path(paths.__file__).parents[2]
    top.mkdir(parents=True)
    (top / "pyproject.toml").touch()
    assert not paths.in_checkout()
    assert paths.repository_top() == installed


@pytest.mark.parametrize(
    ("script", "flags", "left_out"),
    [
        (prep_dataset, [], "--output_dir"),
        (prep_dataset, ["--output_dir", "x"], ""),
        (train, [], "--dataset_dir and --output_dir"),
        (train, ["--output_dir", "x"], "--dataset_dir"),
        (train, ["--output_dir", "x", "--dataset_dir", "y"], ""),
        (test, ["--evaluate"], "--run_dir"),
        (test, ["--evaluate", "--run_dir", "x"], ""),
    ],
)
def test_the_working_directory_is_named_where_it_is_the_default(
    script, flags, left_out, installed, capsys
):
    cli.checked_options(script.Options, flags)
    said = capsys.readouterr().err
    assert said.startswith(f"note: without {left_out}, tfrecords " if left_out else "")
    assert bool(said) == bool(left_out)
    assert not left_out or said.endswith(f"{installed}\n")


def test_in_a_checkout_nothing_is_said_of_it(capsys):
    cli.checked_options(train.Options, [])
    assert capsys.readouterr().err == ""

from pathlib import Path

from gpt2_tuning import paths


def test_default_directories_are_at_the_repositorys_top_whatever_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    top = Path(__file__).parents[1]
    assert paths.repository_top() == top
    assert paths.dataset_dir("classification") == top / "tfrecords" / "classification"
    assert paths.run_dir("entailment", "a") == top / "experiments" / "runs" / "entailment" / "a"


def test_outside_a_repository_the_working_directory_serves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "a/b/site-packages/gpt2_tuning/paths.py"))
    assert paths.dataset_dir("text") == tmp_path / "tfrecords" / "text"

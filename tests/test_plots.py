"""Pictures of a run take their place in one step."""

import numpy as np

from gpt2_tuning.plots import plot_confusion


def test_a_picture_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "confusion.png").symlink_to(tmp_path / "mine.txt")
    plot_confusion(np.eye(2, dtype=int), ["no", "yes"], tmp_path / "confusion.png")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "confusion.png").is_symlink()
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "mine.txt"]

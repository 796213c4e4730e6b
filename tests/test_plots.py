"""Pictures of a run take their place in one step, and can be read whatever they show."""

import numpy as np
import pytest

from gpt2_tuning import plots
from gpt2_tuning.calibration import calibration
from gpt2_tuning.plots import plot_calibration, plot_confusion, plot_curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, laid out as in their files."""
    figures = []
    save = plots.save

    def keep_and_save(figure, path):
        figure.draw_without_rendering()
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save", keep_and_save)
    return figures


def curves(path, epochs, kept, unit="epoch"):
    history = [
        {unit: e, "loss": 1 / e, "val_loss": 1.1 / e, "accuracy": 0.5, "val_accuracy": 0.4}
        for e in range(1, epochs + 1)
    ]
    baseline = {"loss": 0.7, "accuracy": 0.3}
    plot_curves(
        history, path, unit=unit, kept=kept, baseline=baseline, baseline_name="baseline: mine"
    )


def test_a_picture_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "confusion.png").symlink_to(tmp_path / "mine.txt")
    plot_confusion(np.eye(2, dtype=int), ["no", "yes"], tmp_path / "confusion.png", "test")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "confusion.png").is_symlink()
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "mine.txt"]


@pytest.mark.parametrize(("epochs", "kept"), [(1, 1), (12, 9)])
def test_curves_mark_the_kept_epoch_and_the_baseline_at_whole_epochs(tmp_path, drawn, epochs, kept):
    curves(tmp_path / "curves.png", epochs, kept)
    for axis, baseline in zip(drawn[0].axes, (0.7, 0.3), strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert set(lines[f"epoch {kept}, kept"].get_xdata()) == {kept}
        assert set(lines["baseline: mine"].get_ydata()) == {baseline}
        assert lines["validation"].get_marker() == "o"
        low, high = axis.get_xlim()
        ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)


def test_curves_of_a_run_by_updates_are_over_updates(tmp_path, drawn):
    curves(tmp_path / "curves.png", 400, 350, unit="update")
    for axis in drawn[0].axes:
        assert axis.get_xlabel() == "update"
        assert "update 350, kept" in {line.get_label() for line in axis.get_lines()}


def test_the_legend_of_the_curves_hides_no_axis(tmp_path, drawn):
    curves(tmp_path / "curves.png", 12, 9)
    legend = drawn[0].legends[0].get_window_extent()
    assert not any(legend.overlaps(axis.get_tightbbox()) for axis in drawn[0].axes)


@pytest.mark.parametrize(("classes", "axes"), [(2, 1), (6, 2)])
def test_two_classes_need_no_colour_bar(tmp_path, drawn, classes, axes):
    names = [f"c{index}" for index in range(classes)]
    plot_confusion(np.eye(classes, dtype=int), names, tmp_path / "confusion.png", "test")
    assert len(drawn[0].axes) == axes
    assert drawn[0].axes[0].get_title() == f"confusion matrix: test, {classes} examples"


def test_names_of_classes_are_never_taken_for_mathematics(tmp_path, drawn):
    names = [r"$\frac{$", "a" * 30 + "-1", "a" * 30 + "-2"]
    plot_confusion(np.eye(3, dtype=int), names, tmp_path / "confusion.png", "test")
    shown = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert shown[0] == names[0]
    assert len({*shown}) == 3
    assert max(map(len, shown)) <= plots.LONGEST_NAME


def test_a_reliability_diagram_shows_each_filled_bin_once(tmp_path, drawn):
    probabilities = np.array([[1.0, 0.0], [0.9, 0.1], [0.91, 0.09], [0.4, 0.6]])
    found = calibration(probabilities, np.array([0, 0, 1, 1]))
    plot_calibration(found, tmp_path / "calibration.png", "test")
    above, below = drawn[0].axes
    places, shares = above.get_lines()[1].get_data()
    assert places == pytest.approx([0.6, 0.905, 1.0])
    assert shares == pytest.approx([1, 0.5, 1])
    assert [bar.get_height() for bar in below.patches] == found.counts.tolist()
    assert "expected calibration error" in above.get_title()

"""The last acts of a run: TensorBoard gets what it came to, and what it needs no longer goes."""

from pathlib import Path

from gpt2_tuning.runs import run_files
from gpt2_tuning.training import checkpoint_files, run_directory
from gpt2_tuning.training.board import log_result
from gpt2_tuning.training.model_card import CARD_FILE
from gpt2_tuning.training.tuner import Tuner

MB = 1e6
DECIDING = ("epoch", "update", "val_")
"""What the columns begin with in which runs are compared."""


def finish(tuner: Tuner) -> None:
    """What follows once all that a run leaves is written; says what it takes on disk.

    A kill in here costs nothing: the run is finished, and `--resume` does the rest of it.
    """
    run_dir, best = tuner.run_dir, tuner.progress.best_row()
    log_result(
        run_dir,
        int(tuner.progress.history[-1]["update"]),
        run_directory.as_settings(tuner.options),
        {f"best/{name}": value for name, value in best.items() if name.startswith(DECIDING)},
        {"card": (run_dir / CARD_FILE).read_text(encoding="utf-8"), **tuner.samples},
        [path for path in sorted(run_dir.glob("*.png")) if run_files.is_own(path)],
    )
    print(disk_line(run_dir, tuner.options.keep_checkpoints))


def disk_line(run_dir: Path, keep_checkpoints: bool) -> str:
    """Removes a finished run's checkpoints unless they are to be kept, and says what it takes."""
    before = run_files.size_of(run_dir)
    directory = run_dir / run_files.CHECKPOINTS
    if keep_checkpoints:
        kept = run_files.size_of(directory)
        return f"disk: {before / MB:.1f} MB, {kept / MB:.1f} of them in {directory}"
    checkpoint_files.keep_end(directory)
    after = run_files.size_of(run_dir)
    removed = (before - after) / MB
    return f"disk: {after / MB:.1f} MB" + (
        f"; {removed:.1f} MB of checkpoints removed (--keep_checkpoints keeps them)"
        if removed
        else ""
    )

"""The same training with several seeds: how much of a score is the seed's luck.

Each seed is a whole run in a directory of its own, and is the very run that it would be alone.
"""

import dataclasses
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.files import write_text
from gpt2_tuning.markdown import escaped, table
from gpt2_tuning.metrics import scores_as_json, title_of
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs import run_files
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training import run_directory
from gpt2_tuning.training.checkpoint_files import found_in
from gpt2_tuning.training.evaluation import headline_names
from gpt2_tuning.training.finishing import disk_line
from gpt2_tuning.training.model_card import CARD_FILE, described

SEEDS_FILE = "seeds.json"
SCORES_FILE = "validation.json"

Run = Callable[[ClassifierOptions, Path], Path]


def train_seeds(
    run: Run, options: ClassifierOptions, parent: Path, metadata: Metadata, title: str
) -> Path:
    """Runs the seeds `seed`, `seed + 1`, ... and writes what they have in common.

    With `--resume` the seeds that are finished stay as they are, the one under way continues from
    its newest checkpoint, and the others start.

    Args:
        run: trains one seed in a directory.
        options: the flags of all.
        parent: holds a directory for each seed, seeds.json and README.md; the caller has it to
            itself (see run_directory.begun).
        metadata: the data.
        title: what the models do.

    Returns:
        The directory of the first seed.
    """
    directories = {}
    for seed in range(options.seed, options.seed + options.seeds):
        directory = directories[seed] = parent / f"seed-{seed}"
        one = options_of_seed(options, seed, directory)
        run_directory.check_run_dir(metadata.task, one, metadata)
        if one.resume and is_finished(directory):
            print(f"seed {seed}: finished before, in {directory}")
            print(disk_line(directory, options.keep_checkpoints))
            continue
        print(f"\nseed {seed} ({len(directories)} of {options.seeds})")
        run(one, directory)
        run_files.drop_aside(parent)
        gc.collect()  # a model and its traced steps refer to each other; the next one needs room
    figures = {
        seed: read_json(directory / SCORES_FILE, "a finished run")
        for seed, directory in directories.items()
    }
    report(parent, figures, run_directory.as_settings(options), metadata, title)
    return directories[options.seed]


def options_of_seed(options: ClassifierOptions, seed: int, directory: Path) -> ClassifierOptions:
    """The flags with which the seed's run would be started alone."""
    one = dataclasses.replace(options, seed=seed, seeds=1, output_dir=directory, overwrite=False)
    if not options.resume:
        return one
    if is_finished(directory) or found_in(directory / run_files.CHECKPOINTS):
        return one
    # Stopped before its first checkpoint, or never begun: from the start.
    return dataclasses.replace(one, resume=False, overwrite=True)


def is_finished(directory: Path) -> bool:
    """Whether a seed's run has come to its end: the model card is written last."""
    return (directory / CARD_FILE).is_file() and (directory / SCORES_FILE).is_file()


def spread(figures: dict[int, dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean, sample standard deviation and values of each figure over the seeds (two or more)."""
    values = {name: [scores[name] for scores in figures.values()] for name in names}
    return {
        name: {
            "mean": float(np.mean(column)),
            "standard_deviation": float(np.std(column, ddof=1)),
            "values": column,
        }
        for name, column in values.items()
    }


def report(
    parent: Path,
    figures: dict[int, dict[str, Any]],
    settings: dict[str, Any],
    metadata: Metadata,
    title: str,
) -> None:
    """Prints mean and spread, and writes seeds.json and the README.md over all seeds.

    Args:
        parent: holds the seeds' directories.
        figures: each seed's validation.json.
        settings: the flags of all.
        metadata: the data.
        title: what the models do.
    """
    names = headline_names(metadata)
    titles = {name: title_of(name, metadata.label_names or []) for name in names}
    found = spread(figures, names)
    content = {"seeds": list(figures), "validation": found}
    write_text(parent / SEEDS_FILE, scores_as_json(content))
    print(f"\nvalidation over {len(figures)} seeds, mean ± standard deviation:")
    for name, row in found.items():
        print(f"  {titles[name]} {row['mean']:.4f} ± {row['standard_deviation']:.4f}")
    print(f"report: {parent / CARD_FILE}")
    means = [f"{row['mean']:.4f} ± {row['standard_deviation']:.4f}" for row in found.values()]
    baselines = next(iter(figures.values()))["baseline"]
    rows = [
        *(
            [f"[{seed}](seed-{seed}/{CARD_FILE})", *(f"{scores[name]:.4f}" for name in names)]
            for seed, scores in figures.items()
        ),
        ["**mean ± standard deviation**", *means],
        [escaped(f"always {baselines['always']!r}"), *(f"{baselines[name]:.4f}" for name in names)],
    ]
    write_text(
        parent / CARD_FILE,
        f"""# {title}: {len(figures)} seeds

{described(settings, metadata)}

## Validation

{table(["seed", *map(escaped, titles.values())], rows)}

The seeds differ in the order of the batches, in dropout, and in whichever weights began at random;
the data and its splits are the same. Each directory is a whole run, to be tried with test.py.
""",
    )

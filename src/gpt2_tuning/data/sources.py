"""Where rows come from: the Hugging Face Hub, local files, or a sample in the package.

Whatever the source, a task gets the same thing: three splits that hold only the columns it uses.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import datasets
import huggingface_hub
import numpy as np

from gpt2_tuning.data.labels import read_labels
from gpt2_tuning.data.row_files import READERS, check_columns, check_text_columns, read_row_file
from gpt2_tuning.data.splits import SHARE, cut_rows, fingerprint, limited_rows, row_digests
from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    from gpt2_tuning.training.options import PrepareOptions

SPLITS = ("train", "validation", "test")
SAMPLE = "sample"


@dataclasses.dataclass(frozen=True)
class Source:
    """The rows of a data set, ready to be tokenised."""

    splits: dict[str, datasets.Dataset]
    """In the order of SPLITS; a label column is a ClassLabel, so its values are class numbers."""
    name: str
    """The Hub's name, the names of the files, or `sample`: never a path."""
    kind: Literal["hub", "files", "sample"]
    fingerprint: str
    """sha256 over the content of the rows: no paths, no times."""
    origins: dict[str, str]
    """For each split `given` or `cut from train`."""
    label_names: list[str] | None
    """The classes, where there is a label column."""


def load_source(
    options: "PrepareOptions",
    *,
    default_dataset: str,
    sample_file: Path,
    text_columns: Sequence[str],
    label_column: str | None = None,
) -> Source:
    """Reads the rows that the flags ask for, cuts the splits that are missing, then limits them.

    Args:
        options: which data set or files, the seed of the cut and the limit.
        default_dataset: name on the Hub, used when no flag names a source.
        sample_file: the rows of `--dataset sample`.
        text_columns: the columns of text that the task uses.
        label_column: the column of the class, if the task has classes.

    Raises:
        UserError: flags that contradict each other, or rows that cannot be had or used.
    """
    check_flags(options)
    splits, name, kind = read_splits(
        options, default_dataset, sample_file, text_columns, label_column
    )
    given = dict.fromkeys(splits, "given")
    label_names = None
    if label_column:
        # Before the cut, so that a class is known wherever its rows end up.
        label_names, labels = read_labels(splits, label_column)
        splits = {
            split: with_classes(rows, label_column, label_names, labels[split])
            for split, rows in splits.items()
        }
    splits = with_all_splits(splits, text_columns, label_column, options.seed)
    if options.limit is not None:
        splits = {
            split: limited(rows, text_columns, label_column, options.limit, options.seed)
            for split, rows in splits.items()
        }
    columns = [*text_columns, *([label_column] if label_column else [])]
    return Source(
        splits=splits,
        name=name,
        kind=kind,
        fingerprint=fingerprint(splits, columns, label_names),
        origins={split: given.get(split, "cut from train") for split in splits},
        label_names=label_names,
    )


def check_flags(options: "PrepareOptions") -> None:
    """Raises UserError when the flags that choose the rows contradict each other."""
    if options.dataset and options.train_file:
        raise UserError("--dataset and --train_file exclude each other: give one of them")
    if not options.train_file:
        for flag in ("validation_file", "test_file"):
            if getattr(options, flag):
                raise UserError(f"--{flag} needs --train_file beside it")
    if options.dataset_config and (options.train_file or options.dataset == SAMPLE):
        raise UserError("--dataset_config belongs to a data set on the Hub")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")


def read_splits(
    options: "PrepareOptions",
    default_dataset: str,
    sample_file: Path,
    text_columns: Sequence[str],
    label_column: str | None,
) -> tuple[dict[str, datasets.Dataset], str, Literal["hub", "files", "sample"]]:
    """The splits that are given, with the data set's name and kind of source."""
    if options.dataset == SAMPLE:
        return {"train": read_row_file(sample_file, text_columns, label_column)}, SAMPLE, "sample"
    if options.train_file:
        files = {split: getattr(options, f"{split}_file") for split in SPLITS}
        files = {split: path for split, path in files.items() if path}
        splits = {
            split: read_row_file(path, text_columns, label_column) for split, path in files.items()
        }
        return splits, ", ".join(path.name for path in files.values()), "files"
    name = options.dataset or default_dataset
    splits = read_hub(name, options.dataset_config)
    columns = [*text_columns, *([label_column] if label_column else [])]
    for split, rows in splits.items():
        check_columns(rows.column_names, columns, f"{name}, split {split},")
        check_text_columns(rows, text_columns, name)
        splits[split] = rows.select_columns(columns)
    return splits, "/".join(filter(None, [name, options.dataset_config])), "hub"


def read_hub(name: str, config: str | None) -> dict[str, datasets.Dataset]:
    """The splits of a data set on the Hub that are called train, validation and test.

    Raises:
        UserError: it cannot be had, or has no train split.
    """
    if name.lower().endswith(tuple(READERS)) or Path(name).exists():
        raise UserError(f"--dataset takes a name on the Hub; give the file {name} to --train_file")
    # Without a network the client tries for half a minute, with a warning each time: say it once.
    print(f"getting {name} from the Hugging Face Hub or its cache", file=sys.stderr)
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        called = name if config is None else f"{name} (config {config})"
        raise UserError(
            f"cannot get {called} from the Hugging Face Hub or its cache: {error};"
            f" `--dataset {SAMPLE}` and --train_file FILE work without network"
        ) from error
    splits = {split: found[split] for split in SPLITS if split in found}
    if "train" not in splits:
        raise UserError(f"{name} has no train split; its splits: {', '.join(found)}")
    for split, rows in splits.items():
        if not len(rows):
            raise UserError(f"the {split} split of {name} holds no rows")
    return splits


def with_classes(
    rows: datasets.Dataset, column: str, names: list[str], labels: np.ndarray
) -> datasets.Dataset:
    """The rows with their label column (int64[rows]) replaced by class numbers."""
    feature = datasets.ClassLabel(names=names)
    return rows.remove_columns(column).add_column(column, labels.tolist(), feature=feature)


def with_all_splits(
    splits: dict[str, datasets.Dataset],
    text_columns: Sequence[str],
    label_column: str | None,
    seed: int,
) -> dict[str, datasets.Dataset]:
    """The splits, in order, with those that are missing cut from train."""
    missing = [split for split in SPLITS if split not in splits]
    train = splits["train"]
    if missing:
        labels = train[label_column][:] if label_column else None
        parts = cut_rows(row_digests(train, text_columns), labels, missing, seed)
        splits = {**splits, **{split: train.select(part) for split, part in parts.items()}}
    return {split: splits[split] for split in SPLITS}


def limited(
    rows: datasets.Dataset,
    text_columns: Sequence[str],
    label_column: str | None,
    limit: int,
    seed: int,
) -> datasets.Dataset:
    """The rows, or `limit` of them."""
    if len(rows) <= limit:
        return rows
    labels = rows[label_column][:] if label_column else None
    return rows.select(limited_rows(row_digests(rows, text_columns), labels, limit, seed))


def split_origins(source: Source) -> dict[str, dict[str, object]]:
    """Where each split came from and how many rows it holds, as metadata.json says it."""
    origins: dict[str, dict[str, object]] = {}
    for split, rows in source.splits.items():
        origins[split] = {"origin": source.origins[split], "rows": len(rows)}
        if source.origins[split] != "given":
            origins[split]["share"] = SHARE
    return origins

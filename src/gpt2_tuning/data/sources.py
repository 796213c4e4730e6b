"""Where rows come from: the Hugging Face Hub, local files, or a sample in the package.

Whatever the source, a task gets the same thing: three splits that hold only the columns it uses.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpt2_tuning.data.labels import read_labels
from gpt2_tuning.data.row_files import (
    READERS,
    check_columns,
    check_text_columns,
    column_names,
    read_row_file,
)
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.splits import (
    SHARE,
    cut_rows,
    fingerprint,
    limited_rows,
    row_digests,
    without_hidden_test,
)
from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    import datasets

    from gpt2_tuning.training.options import DatasetOptions

SPLITS = ("train", "validation", "test")
SAMPLE = "sample"
CUT = "cut from train"


@dataclasses.dataclass(frozen=True)
class Source:
    """The rows of a data set, ready to be tokenised."""

    splits: dict[str, Rows]
    """In the order of SPLITS; the values of a label column are class numbers."""
    name: str
    """The Hub's name, the names of the files, or `sample`: never a path."""
    kind: Literal["hub", "files", "sample"]
    fingerprint: str
    """sha256 over the content of the rows: no paths, no times."""
    origins: dict[str, str]
    """For each split `given`, `given as` another split, or `cut from train`."""
    label_names: list[str] | None
    """The classes, where there is a label column."""


@dataclasses.dataclass(frozen=True)
class OpenedRows:
    """A data set that was found, of which a task has yet to say which columns it wants."""

    name: str
    """As Source has it."""
    kind: Literal["hub", "files", "sample"]
    """As Source has it."""
    files: Mapping[str, Sequence[Path]]
    """For each split that is given its local files; empty for a data set on the Hub."""
    hub: Mapping[str, "datasets.Dataset"]
    """For each split that is given its rows on the Hub; empty for local files."""
    split_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the Hub calls a split, where it is not by its own name."""

    def column_names(self) -> list[str]:
        """The columns of the train split. Raises UserError where its file cannot be read."""
        if self.hub:
            return self.hub["train"].column_names
        return column_names(self.files["train"][0])

    def read(self, text_columns: Sequence[str], label_column: str | None = None) -> dict[str, Rows]:
        """The rows of each split that is given, with these columns only.

        Raises:
            UserError: a file cannot be read, a column is missing, or text is not text.
        """
        if self.files:  # tasks of rows with columns have one for each split
            return {
                split: read_row_file(path, text_columns, label_column)
                for split, (path,) in self.files.items()
            }
        # Each once: flags may name a column twice, which the check of its type then refuses.
        columns = list(dict.fromkeys([*text_columns, *([label_column] if label_column else [])]))
        splits = {}
        for split, found in self.hub.items():
            check_columns(found.column_names, columns, f"{self.name}, split {split},")
            splits[split] = rows_of(found.select_columns(columns))
            check_text_columns(splits[split], text_columns, self.name)
        return splits


def load_source(
    options: "DatasetOptions",
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
    opened = open_rows(options, default_dataset, sample_file)
    return read_source(opened, options, text_columns, label_column)


def read_source(
    opened: OpenedRows,
    options: "DatasetOptions",
    text_columns: Sequence[str],
    label_column: str | None = None,
    group_columns: Sequence[str] | None = None,
    signed_labels: bool = True,
) -> Source:
    """What `load_source` does, for a task that looks at the columns before it chooses some.

    Args:
        opened: from `open_rows`.
        options: the seed of the cut and the limit.
        text_columns: as in `load_source`.
        label_column: as in `load_source`.
        group_columns: rows that agree in these text columns stay on one side of a cut; None takes
            all text columns.
        signed_labels: whether an integer label of -1 is a class; see `read_labels`.

    Raises:
        UserError: the rows cannot be used.
    """
    splits = opened.read(text_columns, label_column)
    group_columns = group_columns or text_columns
    given = dict.fromkeys(splits, "given")
    label_names = None
    if label_column:
        if opened.hub:
            splits, given = without_hidden_test(splits, label_column, opened.split_names)
        # Before the cut, so that a class is known wherever its rows end up.
        label_names, labels = read_labels(splits, label_column, signed_labels)
        splits = {
            split: rows.with_column(label_column, labels[split], label_names)
            for split, rows in splits.items()
        }
    splits = with_all_splits(splits, group_columns, label_column, options.seed)
    if options.limit is not None:
        splits = {
            split: limited(rows, group_columns, label_column, options.limit, options.seed)
            for split, rows in splits.items()
        }
    columns = [*text_columns, *([label_column] if label_column else [])]
    return Source(
        splits=splits,
        name=opened.name,
        kind=opened.kind,
        fingerprint=fingerprint(splits, columns, label_names),
        origins={split: given.get(split, CUT) for split in splits},
        label_names=label_names,
    )


def check_flags(options: "DatasetOptions") -> None:
    """Raises UserError when the flags that choose the rows contradict each other."""
    files = local_files(options)
    if options.dataset and "train" in files:
        raise UserError("--dataset and --train_file exclude each other: give one of them")
    if files and "train" not in files:
        raise UserError(f"--{next(iter(files))}_file needs --train_file beside it")
    if options.dataset_config and (files or options.dataset == SAMPLE):
        raise UserError("--dataset_config belongs to a data set on the Hub")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")


def local_files(options: "DatasetOptions") -> dict[str, tuple[Path, ...]]:
    """The files that the flags name, for each split that has some."""
    files = {}
    for split in SPLITS:
        given = getattr(options, f"{split}_file")
        if given:
            files[split] = (given,) if isinstance(given, Path) else tuple(given)
    return files


def open_rows(
    options: "DatasetOptions",
    default_dataset: str,
    sample_file: Path,
    split_names: Mapping[str, str] | None = None,
) -> OpenedRows:
    """Finds the data set that the flags ask for. Arguments and errors are those of `load_source`.

    `split_names` says what the Hub calls train, validation or test where it is not that.
    A file is looked into only when it is read.
    """
    check_flags(options)
    if options.dataset == SAMPLE:
        return OpenedRows(SAMPLE, "sample", {"train": [sample_file]}, {})
    files = local_files(options)
    if files:
        name = ", ".join(path.name for paths in files.values() for path in paths)
        return OpenedRows(name, "files", files, {})
    name = options.dataset or default_dataset
    called = "/".join(filter(None, [name, options.dataset_config]))
    split_names = split_names or {}
    splits = read_hub(name, options.dataset_config, split_names)
    return OpenedRows(called, "hub", {}, splits, split_names)


def read_hub(
    name: str, config: str | None, split_names: Mapping[str, str]
) -> dict[str, "datasets.Dataset"]:
    """The splits of a data set on the Hub that serve as train, validation and test.

    Raises:
        UserError: it cannot be had, or has no train split.
    """
    if name.lower().endswith(tuple(READERS)) or Path(name).exists():
        raise UserError(f"--dataset takes a name on the Hub; give the file {name} to --train_file")
    # Imported here: it takes a second, and local files do without it.
    import datasets
    import huggingface_hub

    # Without a network the client tries for half a minute, with a warning each time: say it once.
    print(f"getting {name} from the Hugging Face Hub or its cache", file=sys.stderr)
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        meant = name if config is None else f"{name} (config {config})"
        raise UserError(
            f"cannot get {meant} from the Hugging Face Hub or its cache: {error};"
            f" `--dataset {SAMPLE}` and --train_file FILE work without network"
        ) from error
    called = {split: split_names.get(split, split) for split in SPLITS}
    splits = {split: found[called[split]] for split in SPLITS if called[split] in found}
    if "train" not in splits:
        raise UserError(f"{name} has no train split; its splits: {', '.join(found)}")
    for split, rows in splits.items():
        if not len(rows):
            raise UserError(f"the {split} split of {name} holds no rows")
    return splits


def rows_of(found: "datasets.Dataset") -> Rows:
    """The rows of a data set from the Hub, where they lie: nothing is copied."""
    import datasets

    names = {
        name: list(feature.names)
        for name, feature in found.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return Rows(found.with_format("arrow")[:], names)


def with_all_splits(
    splits: dict[str, Rows],
    text_columns: Sequence[str],
    label_column: str | None,
    seed: int,
) -> dict[str, Rows]:
    """The splits, in order, with those that are missing cut from train."""
    missing = [split for split in SPLITS if split not in splits]
    train = splits["train"]
    if missing:
        labels = train[label_column] if label_column else None
        parts = cut_rows(row_digests(train, text_columns), labels, missing, seed)
        splits = {**splits, **{split: train.select(part) for split, part in parts.items()}}
    return {split: splits[split] for split in SPLITS}


def limited(
    rows: Rows,
    text_columns: Sequence[str],
    label_column: str | None,
    limit: int,
    seed: int,
) -> Rows:
    """The rows, or `limit` of them."""
    if len(rows) <= limit:
        return rows
    labels = rows[label_column] if label_column else None
    return rows.select(limited_rows(row_digests(rows, text_columns), labels, limit, seed))


def split_origins(source: Source) -> dict[str, dict[str, object]]:
    """Where each split came from and how many rows it holds, as metadata.json says it."""
    origins: dict[str, dict[str, object]] = {}
    for split, rows in source.splits.items():
        origins[split] = {"origin": source.origins[split], "rows": len(rows)}
        if not source.origins[split].startswith("given"):
            origins[split]["share"] = SHARE
    return origins

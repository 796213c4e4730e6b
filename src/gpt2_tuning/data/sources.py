"""Where rows come from: the Hugging Face Hub, local files, or a sample in the package.

Whatever the source, a task gets the same thing: three splits that hold only the columns it uses.
"""

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from gpt2_tuning.data.column_names import (
    OptionsT,
    check_apart,
    check_columns,
    naming_flags,
    with_usual_columns,
)
from gpt2_tuning.data.columns import check_text_columns
from gpt2_tuning.data.given_files import SAMPLE, SPLITS, check_flags, found_files, named_files
from gpt2_tuning.data.hub import read_hub, rows_of
from gpt2_tuning.data.labels import read_labels
from gpt2_tuning.data.reading import BY_ITSELF, Reading
from gpt2_tuning.data.row_files import column_names, read_row_files, with_conversations
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.splits import (
    SHARE,
    cut_rows,
    fingerprint,
    limited_rows,
    row_digests,
    without_hidden_test,
)

if TYPE_CHECKING:
    import datasets

    from gpt2_tuning.options.preparation import DatasetOptions

CUT = "cut from train"
HEAD = 1000
"""Rows of JSON that are looked at for the usual names of columns."""


SplitT = TypeVar("SplitT", bound=Sized)


@dataclasses.dataclass(frozen=True)
class Source(Generic[SplitT]):
    """The rows of a data set, or its documents, ready to be tokenised."""

    splits: dict[str, SplitT]
    """In the order of SPLITS; the values of a label column of rows are class numbers."""
    name: str
    """The Hub's name, the names of the files, or `sample`: never a path."""
    kind: Literal["hub", "files", "sample"]
    fingerprint: str
    """sha256 over the content of the rows: no paths, no times."""
    origins: dict[str, str]
    """For each split `given`, `given as` another split, or `cut from train`."""
    label_names: list[str] | None
    """The classes, where there is a label column."""
    counts: dict[str, dict[str, int]]
    """For each split, of its rows as metadata.json counts them: `end_of_text_written`, those
    whose texts hold the letters of the end of text, and with classes `labels_trimmed`, those whose
    label had blanks around it."""
    notes: Sequence[str] = ()
    """As OpenedRows has them."""


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
    reading: Reading = BY_ITSELF
    """How local files are read."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What is to be said, once they can be used, of how they were read and columns were found."""

    def column_names(self, most: int | None = None) -> list[str]:
        """The columns of the train split, by its first file; `most` as in `row_files`.

        Raises:
            UserError: the file cannot be read.
        """
        if self.hub:
            return self.hub["train"].column_names
        return column_names(self.files["train"][0], self.reading, most)

    def with_conversations(self, column: str) -> "OpenedRows":
        """The same, with a column of lists of messages that is read as their JSON text."""
        reading = dataclasses.replace(self.reading, conversations=(column,))
        return dataclasses.replace(self, reading=reading)

    def first_columns(self) -> list[str]:
        """The columns of the first rows. Raises UserError as `column_names` does."""
        return self.column_names(HEAD)

    def with_usual_columns(self, options: OptionsT, usual: Mapping[str, Sequence[str]]) -> OptionsT:
        """The options with names for the columns that no flag names.

        Args:
            options: the flags.
            usual: as in `column_names.with_usual_columns`.

        Raises:
            UserError: the first file cannot be read.
        """
        if all(getattr(options, flag) for flag in usual):
            return options
        return with_usual_columns(options, self.first_columns(), usual, self.notes)

    def read(self, text_columns: Sequence[str], label_column: str | None = None) -> dict[str, Rows]:
        """The rows of each split that is given, with these columns only.

        Raises:
            UserError: a file cannot be read, a column is missing, or text is not text.
        """
        if self.files:
            return {
                split: read_row_files(paths, text_columns, label_column, self.reading, self.notes)
                for split, paths in self.files.items()
            }
        # Each once: flags may name a column twice, which the check of its type then refuses.
        columns = list(dict.fromkeys([*text_columns, *([label_column] if label_column else [])]))
        splits = {}
        for split, found in self.hub.items():
            where = f"{self.name}, split {split}"
            check_columns(found.column_names, columns, f"{where},")
            rows = rows_of(found.select_columns(columns))
            table = with_conversations(rows.table, self.reading)
            table = check_text_columns(table, text_columns, where, self.reading.coerce)
            splits[split] = dataclasses.replace(rows, table=table)
        return splits


def read_source(
    opened: OpenedRows,
    options: "DatasetOptions",
    end_text: str,
    text_columns: Sequence[str],
    label_column: str | None = None,
    group_columns: Sequence[str] | None = None,
    signed_labels: bool = True,
) -> Source[Rows]:
    """Reads the rows of a data set, cuts the splits that are missing, then limits them.

    Args:
        opened: from `open_rows`.
        options: the seed of the cut and the limit; its flags of columns have what was chosen.
        end_text: what ends a text, as texts may hold it in letters, which is counted.
        text_columns: the columns of text that the task uses.
        label_column: the column of the class, if the task has classes.
        group_columns: rows that agree in these text columns stay on one side of a cut; None takes
            all text columns.
        signed_labels: whether an integer label of -1 is a class; see `read_labels`.

    Raises:
        UserError: the rows cannot be used.
    """
    with naming_flags(options):
        splits = opened.read(text_columns, label_column)
    group_columns = group_columns or text_columns
    given = dict.fromkeys(splits, "given")
    check_apart(text_columns, label_column)
    label_names, trimmed = None, None
    if label_column:
        if opened.hub:
            splits, given = without_hidden_test(splits, label_column, opened.split_names)
        # Before the cut, so that a class is known wherever its rows end up.
        label_names, numbers, trimmed = read_labels(splits, label_column, signed_labels)
        splits = {
            split: rows.with_column(label_column, numbers[split], label_names)
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
        counts=row_counts(splits, text_columns, end_text, trimmed),
        notes=opened.notes,
    )


def open_rows(
    options: "DatasetOptions",
    default_dataset: str,
    sample_files: Path | Mapping[str, Path],
    split_names: Mapping[str, str] | None = None,
) -> OpenedRows:
    """Finds the data set that the flags ask for; a file is looked into only when it is read.

    Args:
        options: which data set or files.
        default_dataset: name on the Hub, used when no flag names a source.
        sample_files: the rows of `--dataset sample`, or of each sample by its name.
        split_names: what the Hub calls train, validation or test where it is not that.

    Raises:
        UserError: flags that contradict each other, or a data set that cannot be had.
    """
    check_flags(options)
    samples = {SAMPLE: sample_files} if isinstance(sample_files, Path) else sample_files
    if sample := samples.get(options.dataset or ""):
        return OpenedRows(options.dataset or "", "sample", {"train": [sample]}, {})
    named = named_files(options)
    if named:
        name = ", ".join(path.name for paths in named.values() for path in paths)
        files = {split: found_files(paths) for split, paths in named.items()}
        return OpenedRows(name, "files", files, {}, reading=Reading.of(options))
    name = options.dataset or default_dataset
    called = "/".join(filter(None, [name, options.dataset_config]))
    split_names = split_names or {}
    wanted = {split: split_names.get(split, split) for split in SPLITS}
    splits = read_hub(name, options.dataset_config, wanted)
    return OpenedRows(called, "hub", {}, splits, split_names, Reading.of(options))


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


def row_counts(
    splits: Mapping[str, Rows],
    text_columns: Sequence[str],
    end_text: str,
    trimmed: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, int]]:
    """The counts of a Source.

    Args:
        splits: all of them; those cut from train are some rows of its table.
        text_columns: the columns of text.
        end_text: the end of text, as it is written in letters.
        trimmed: from `read_labels`, for the splits that were given.
    """
    counts = {}
    for split, rows in splits.items():
        written = rows.holding(end_text, text_columns)
        counts[split] = {"end_of_text_written": int(written.sum())}
        if trimmed is not None:
            marked = rows.own(trimmed.get(split, trimmed["train"]))
            counts[split]["labels_trimmed"] = int(marked.sum())
    return counts


def split_origins(source: Source) -> dict[str, dict[str, object]]:
    """What metadata.json says of each split beforehand: its origin, how many rows, and counts."""
    origins: dict[str, dict[str, object]] = {}
    for split, rows in source.splits.items():
        origins[split] = {"origin": source.origins[split], "rows": len(rows)}
        if not source.origins[split].startswith("given"):
            origins[split]["share"] = SHARE
        origins[split].update(source.counts[split])
    return origins

"""The rows of a data set as a task gets them: three splits, with only the columns that it uses."""

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from gpt2_tuning.data.column_names import check_apart, naming_flags
from gpt2_tuning.data.given_files import SPLITS
from gpt2_tuning.data.labels import Labels, read_labels
from gpt2_tuning.data.opened_rows import OpenedRows
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
    from gpt2_tuning.options.preparation import DatasetOptions

CUT = "cut from train"

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
    check_apart(text_columns, label_column)
    given = dict.fromkeys(splits, "given")
    labels = None
    if label_column:
        if opened.hub:
            splits, given = without_hidden_test(splits, label_column, opened.split_names)
        # Before the cut, so that a class is known wherever its rows end up.
        labels = read_labels(splits, label_column, signed_labels)
        splits = with_numbers(splits, label_column, labels)
    group_columns = group_columns or text_columns
    splits = with_all_splits(splits, group_columns, label_column, options.seed)
    if options.limit is not None:
        splits = limited(splits, group_columns, label_column, options.limit, options.seed)
    columns = [*text_columns, *([label_column] if label_column else [])]
    return Source(
        splits=splits,
        name=opened.name,
        kind=opened.kind,
        fingerprint=fingerprint(splits, columns, labels and labels.names),
        origins={split: given.get(split, CUT) for split in splits},
        label_names=labels and labels.names,
        counts=row_counts(splits, text_columns, end_text, labels and labels.trimmed),
        notes=opened.notes,
    )


def with_numbers(splits: Mapping[str, Rows], column: str, labels: Labels) -> dict[str, Rows]:
    """The splits with the number of each row's class in the label column."""
    return {
        split: rows.with_column(column, labels.numbers[split], labels.names)
        for split, rows in splits.items()
    }


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
    splits: Mapping[str, Rows],
    text_columns: Sequence[str],
    label_column: str | None,
    limit: int,
    seed: int,
) -> dict[str, Rows]:
    """The splits, with `limit` of their rows where they have more."""
    kept = {}
    for split, rows in splits.items():
        if len(rows) > limit:
            labels = rows[label_column] if label_column else None
            digests = row_digests(rows, text_columns)
            rows = rows.select(limited_rows(digests, labels, limit, seed))
        kept[split] = rows
    return kept


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

"""A data set that was found, on the Hugging Face Hub, in local files or in the package.

Its rows are read only once a task has said which columns it wants.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpt2_tuning.data.column_names import OptionsT, check_columns, with_usual_columns
from gpt2_tuning.data.columns import check_text_columns
from gpt2_tuning.data.given_files import SAMPLE, SPLITS, check_flags, found_files, named_files
from gpt2_tuning.data.hub import read_hub, rows_of
from gpt2_tuning.data.reading import BY_ITSELF, Reading
from gpt2_tuning.data.row_files import column_names, read_row_files, with_conversations
from gpt2_tuning.data.rows import Rows

if TYPE_CHECKING:
    import datasets

    from gpt2_tuning.options.preparation import DatasetOptions

HEAD = 1000
"""Rows of JSON that are looked at for the usual names of columns."""


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

"""The flags of every prep_dataset.py."""

import dataclasses
import io
from pathlib import Path
from typing import ClassVar

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import MAX_SEQ_LEN
from gpt2_tuning.needs import Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.ranges import SEEDS, require


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """Flags that every prep_dataset.py shares; `train_file` and its like are each task's own."""

    NEEDS: ClassVar[Needs] = effects.PREPARE
    PLACES: ClassVar[tuple[str, ...]] = ("output_dir",)

    dataset: str | None = None
    """Name on the Hugging Face Hub, or `sample` for the small synthetic set in the package."""
    dataset_config: str | None = None
    """Configuration of a data set on the Hub that has several."""
    output_dir: Path | None = None
    """Where the prepared data goes. Default: tfrecords/<task> at the repository's top, or
    else in the working directory."""
    base: str | None = None
    """Hub name or directory of the base that will be tuned on it, which train.py then takes, and
    whose tokenizer counts. Default: GPT-2 of any size."""
    seq_len: int = MAX_SEQ_LEN
    """Longest example, in tokens: longer ones are cut. At most 1024, or, with --base, as
    many as that base has positions."""
    seed: int = 0
    """Decides which rows are set aside where a split is missing."""
    limit: int | None = None
    """Take only this many rows of each split."""
    delimiter: str | None = None
    """What stands between the cells of CSV and TSV: one character, or \\t. Default: a tab in TSV,
    in CSV what the file's beginning has."""
    encoding: str | None = None
    """Encoding of local files of text, such as cp1252. Default: UTF-8, or UTF-16 by its mark."""
    json_field: str | None = None
    """Key under which a .json file has its rows. Default: the one that holds a list of objects."""
    coerce: bool = False
    """Take numbers, true and false for texts, as JSON writes them, in place of refusing them."""
    show: int = 0
    """Print this many prepared examples as the model will see them."""
    config: Path | None = None
    """A YAML file of flags (`name: value` lines); flags on the command line come first."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        require(0 <= self.seed < SEEDS, "seed", f"from 0 to {SEEDS - 1}", self)
        require(self.show >= 0, "show", "0 or more", self)
        single = self.delimiter in (None, TAB) or len(self.delimiter) == 1
        single = single and self.delimiter not in ('"', "\r", "\n")
        require(single, "delimiter", "one character, or \\t, but no quote or line break", self)
        require(is_encoding(self.encoding), "encoding", "an encoding that Python knows", self)

    def check_apart(self, *names: str) -> None:
        """Raises UserError where two of these flags name the same column."""
        flags: dict[str, str] = {}
        for name in names:
            column = getattr(self, name)
            if column in flags:
                raise UserError(
                    f"--{name} is {column}, as --{flags[column]} is: each needs a column of its own"
                )
            if column is not None:
                flags[column] = name


TAB = "\\t"
"""A tab as it is written on a command line."""


def is_encoding(name: str | None) -> bool:
    """Whether texts can be in it; None is the default."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        return False
    return True


@dataclasses.dataclass(frozen=True)
class PrepareOptions(DatasetOptions):
    """Flags of every prep_dataset.py whose rows have columns."""

    train_file: Path | None = None
    """Local training rows instead of --dataset: .json, .jsonl, .csv, .tsv, .parquet or .xlsx, as
    they are or with .gz or .zst, or a pattern such as 'rows-*.csv'."""
    validation_file: Path | None = None
    """Local validation rows; without it a tenth of the training rows is set aside."""
    test_file: Path | None = None
    """Local test rows; without it a tenth of the training rows is set aside."""

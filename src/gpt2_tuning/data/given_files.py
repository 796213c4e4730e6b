"""The local files that flags name: one by one, by a pattern, or as a folder of texts."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import COMPRESSED

if TYPE_CHECKING:
    from gpt2_tuning.options.preparation import DatasetOptions

SPLITS = ("train", "validation", "test")
SAMPLE = "sample"
PLAIN = ".txt"
"""The suffix of a file that is all text."""


def check_flags(options: "DatasetOptions") -> None:
    """Raises UserError when the flags that choose the rows contradict each other."""
    files = named_files(options)
    if options.dataset and "train" in files:
        raise UserError("--dataset and --train_file exclude each other: give one of them")
    if files and "train" not in files:
        raise UserError(f"--{next(iter(files))}_file needs --train_file beside it")
    if options.dataset_config and (files or (options.dataset or "").startswith(SAMPLE)):
        raise UserError("--dataset_config belongs to a data set on the Hub")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")


def named_files(options: "DatasetOptions") -> dict[str, tuple[Path, ...]]:
    """The files, patterns and folders that the flags name, for each split that has some."""
    files = {}
    for split in SPLITS:
        given = getattr(options, f"{split}_file")
        if given:
            files[split] = (given,) if isinstance(given, Path) else tuple(given)
    return files


def found_files(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: those of a pattern and of a folder by their names, in order.

    A path that is a file is one, whatever its name; one that leads nowhere stays, to be refused
    where it is read.

    Raises:
        UserError: no file fits a pattern.
    """
    files = []
    for path in named:
        if path.is_dir():
            texts = [PLAIN, *(PLAIN + suffix for suffix in COMPRESSED)]
            inside = sorted(
                one for one in path.iterdir() if one.name.lower().endswith(tuple(texts))
            )
            files += inside or [path]
        elif glob.has_magic(str(path)) and not path.exists():
            fitting = [Path(name) for name in glob.glob(str(path), recursive=True)]
            if not fitting:
                raise UserError(f"no file fits the pattern {path}")
            files += sorted(one for one in fitting if not one.is_dir())
        else:
            files.append(path)
    return files

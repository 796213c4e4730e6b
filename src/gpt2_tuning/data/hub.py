"""Rows from the Hugging Face Hub, or from its cache on this machine."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_tuning import extras
from gpt2_tuning.data.columns import with_unix_newlines
from gpt2_tuning.data.row_files import SUFFIXES
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    import datasets


def read_hub(
    name: str, config: str | None, called: Mapping[str, str]
) -> dict[str, "datasets.Dataset"]:
    """The splits of a data set on the Hub that serve as train, validation and test.

    Args:
        name: the data set's.
        config: its configuration, where it has several.
        called: for each split that is wanted what the Hub calls it; all but train may be missing.

    Raises:
        UserError: it cannot be had, has no train split, or `datasets` is not installed.
    """
    if name.lower().endswith(SUFFIXES) or Path(name).exists():
        raise UserError(f"--dataset takes a name on the Hub; give the file {name} to --train_file")
    if not extras.is_installed("datasets"):
        raise UserError(
            f"{name} comes from the Hugging Face Hub, which needs "
            f"{extras.how_to_install('datasets')}; `--dataset sample` and --train_file FILE do "
            "without"
        )
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
            " `--dataset sample` and --train_file FILE work without network"
        ) from error
    splits = {split: found[given] for split, given in called.items() if given in found}
    if "train" not in splits:
        raise UserError(f"{name} has no train split; its splits: {', '.join(found)}")
    for split, rows in splits.items():
        if not len(rows):
            raise UserError(f"the {split} split of {name} holds no rows")
    return splits


def rows_of(found: "datasets.Dataset") -> Rows:
    r"""The rows of a data set from the Hub, where they lie: only text with \r\n in it is copied."""
    import datasets

    names = {
        name: list(feature.names)
        for name, feature in found.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return Rows(with_unix_newlines(found.with_format("arrow")[:]), names)

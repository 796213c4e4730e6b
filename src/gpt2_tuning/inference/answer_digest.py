"""What decides on the answers to a file, in one number: the questions, the run and the flags."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import METADATA_FILE, Metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import sha256_of
from gpt2_tuning.options.testing import TestOptions
from gpt2_tuning.runs.run_files import ADAPTER, BASE, MODEL
from gpt2_tuning.runs.settings import OPTIONS_FILE, read_settings
from gpt2_tuning.runs.weights_record import RECORD_FILE


def answer_digest(options: TestOptions, source: Path, run_dir: Path) -> str:
    """Another hexadecimal sha256 wherever the answers to `source` might be others."""
    parts = {
        "flags": options.deciding(),
        "input": [source.suffix.lower(), sha256_of(source)],
        "run": {str(file.relative_to(run_dir)): sha256_of(file) for file in run_files(run_dir)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def run_files(run_dir: Path) -> Iterator[Path]:
    """The files of a run that decide on its model; of its weights, their sums where it has them."""
    summed = (run_dir / RECORD_FILE).is_file()
    names = (METADATA_FILE, OPTIONS_FILE, RECORD_FILE)
    yield from (run_dir / name for name in names if (run_dir / name).is_file())
    for part in (MODEL, ADAPTER, BASE):
        for file in sorted((run_dir / part).glob("*")):
            if file.is_file() and not (summed and file.suffix == ".safetensors"):
                yield file


def directories_of_run(options: TestOptions, run_dir: Path, metadata: Metadata) -> list[Path]:
    """The run's own and that of its prepared data, as far as they are known."""
    try:
        known = read_settings(run_dir).get("dataset_dir")
    except UserError:
        known = None
    prepared = Path(known) if known else paths.dataset_dir(metadata.task)
    return [run_dir, prepared, *([options.dataset_dir] if options.dataset_dir else [])]

"""The sums of a run's weights, so that files that were changed since are not taken for the run's.

weights.json holds the sha256 of each file from which a model is rebuilt, by its path in the run.
"""

import json
import sys
from pathlib import Path

from gpt2_tuning.checks import is_text
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import sha256_of, write_text
from gpt2_tuning.formats import adapter_files, directory
from gpt2_tuning.runs.run_files import ADAPTER, BASE, MODEL
from gpt2_tuning.small_files import read_json

RECORD_FILE = "weights.json"
SUMMED = {
    directory.CONFIG_FILE,
    directory.WEIGHTS_FILE,
    adapter_files.CONFIG_FILE,
    adapter_files.WEIGHTS_FILE,
}
"""The files that say what is computed; a tokenizer's are for other libraries."""
WAY_OUT = (
    f"bring back the run's own file, or let train.py --resume write it again; without "
    f"{RECORD_FILE} it is loaded unchecked"
)


def record(run_dir: Path, part: str) -> None:
    """Adds the sums of MODEL, ADAPTER or BASE, which was just written, to the run's record."""
    try:
        sums = read(run_dir)
    except UserError:  # damaged, and about to be replaced
        sums = {}
    others = {name: sum_ for name, sum_ in sums.items() if not name.startswith(f"{part}/")}
    content = {"sha256": dict(sorted({**others, **sums_of(run_dir, part)}.items()))}
    write_text(run_dir / RECORD_FILE, json.dumps(content, indent=2) + "\n")


def is_recorded(run_dir: Path, part: str) -> bool:
    """Whether a part is there and is as the record has it."""
    try:
        sums = read(run_dir)
    except UserError:
        return False
    recorded = {name: sum_ for name, sum_ in sums.items() if name.startswith(f"{part}/")}
    return bool(recorded) and recorded == sums_of(run_dir, part)


def check(run_dir: Path) -> None:
    """Compares a run's weights with its record; says so where it has none.

    Raises:
        UserError: naming the first file that differs, is missing or is not recorded.
    """
    if not (run_dir / RECORD_FILE).exists():
        print(
            f"note: {run_dir} has no {RECORD_FILE}: whether its weights were changed since they "
            "were tuned cannot be checked",
            file=sys.stderr,
        )
        return
    recorded, found = read(run_dir), dict[str, str]()
    for part in (MODEL, ADAPTER, BASE):
        found |= sums_of(run_dir, part)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) == found.get(name):
            continue
        if name not in found:
            reason = f"is missing, which {RECORD_FILE} has"
        elif name not in recorded:
            reason = f"is not in {RECORD_FILE}: the run did not write it"
        else:
            reason = f"was changed since the run wrote it: its sha256 is not that of {RECORD_FILE}"
        raise UserError(f"{run_dir / name} {reason}; {WAY_OUT}")


def sums_of(run_dir: Path, part: str) -> dict[str, str]:
    """The sums of a part's files as they are, by path in the run."""
    files = (path for path in sorted((run_dir / part).glob("*")) if path.name in SUMMED)
    return {f"{part}/{path.name}": sha256_of(path) for path in files}


def read(run_dir: Path) -> dict[str, str]:
    """The recorded sums; none where nothing was recorded. Raises UserError for a damaged record."""
    path = run_dir / RECORD_FILE
    if not path.exists():
        return {}
    sums = read_json(path, "a run with a record of its weights").get("sha256")
    if not isinstance(sums, dict) or not all(map(is_text, sums.values())):
        raise UserError(f"{path} is damaged: it holds no sums; {WAY_OUT}")
    return sums

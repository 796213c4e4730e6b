"""What jobs leave, as `make chaos` compares it, and what must be left alone around them."""

import csv
import io
import json
import os
from pathlib import Path

from chaos_jobs import PARTIAL

MINE = (
    "notes.txt",
    ".{name}.20251126/mine",
    ".{name}.abcd1234/new/mine",
    ".{name}.gpt2-tuning-20251126/mine",
    ".{name}.gpt2-tuning-abcd1234/new/mine",
    ".{name}.replaced/mine",
    "{name}-2/metadata.json",
    "step-00000001/progress.json",
    "best-0001.safetensors",
    "tfrecords/train.tfrecord.gz",
)
"""A user's own files beside an output directory of that name, some named much like ours."""


def plant(output: Path) -> None:
    """Puts a tree of sentinels around a place for output, links among them."""
    for name in MINE:
        path = output.parent / name.format(name=output.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine: {name}")
    (output.parent / f".{output.name}.gpt2-tuning-link0001").symlink_to("tfrecords")
    (output.parent / "link").symlink_to("notes.txt")


def around(output: Path) -> dict[str, tuple[str, int]]:
    """What is beside an output directory: each file and link with what it holds, and its time."""
    found = {}
    for path in sorted(output.parent.rglob("*")):
        if output not in path.parents and path != output and not path.is_dir():
            text = os.readlink(path) if path.is_symlink() else path.read_text()
            found[str(path.relative_to(output.parent))] = (text, path.lstat().st_mtime_ns)
    return found


def content(output: Path) -> dict[str, object]:
    """What must be the same: every file by its name, without times, places and what logs them.

    Of the checkpoints the newest, and how many there are: Ctrl-C saves one of its own, which is
    then among those that are kept.
    """
    found: dict[str, object] = {}
    older: set[Path] = set()
    for directory in output.glob("**/checkpoints"):
        steps = sorted(directory.glob("step-*"))
        found[f"{directory.relative_to(output)}: number"] = len(steps)
        older.update(steps[:-1])
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_file() and "tensorboard/" not in name and path.parent not in older:
            found[name] = comparable(path, output)
    return found


def comparable(path: Path, output: Path) -> object:
    """A file's bytes, without what may differ; of a file that is damaged, all of them."""
    try:
        if path.name == "metrics.csv":
            return [unmeasured(row) for row in csv.DictReader(io.StringIO(path.read_text()))]
        if path.name == "progress.json":
            state = json.loads(path.read_text())
            progress = state["progress"]
            history = [unmeasured(row) for row in progress["history"]]
            progress |= {"history": history, "sums": unmeasured(progress["sums"])}
            return {name: value for name, value in state.items() if name != "sha256"}
        if path.name == "README.md":
            return path.read_text().replace(str(output), "")
    except (ValueError, KeyError):
        pass
    return path.read_bytes()


def unmeasured(row: dict) -> dict:
    """Figures that do not depend on the machine."""
    measured = ("seconds", "tokens_per_second", "peak_memory_mb")
    return {name: value for name, value in row.items() if name not in measured}


def differences(expected: dict, found: dict) -> list[str]:
    """The names of the files in which two jobs' content differs."""
    return [name for name in expected | found if expected.get(name) != found.get(name)]


def partials(output: Path) -> set[Path]:
    """The directories in which checkpoints are being written, or were by a process that died."""
    return {path for place in ("", "*/") for path in output.glob(f"{place}checkpoints{PARTIAL}*")}


def variables_of(directories: set[Path]) -> list[int]:
    """How many bytes are there of the variables' files in checkpoints that are being written.

    safetensors gives a file of another name its full size, fills it, and renames it.
    """
    sizes = []
    for path in [file for directory in directories for file in directory.glob("new/*")]:
        try:
            if path.suffix != ".json":
                sizes.append(bytes_in(path))
        except OSError:
            continue
    return sizes


def bytes_in(path: Path) -> int:
    """What a file takes on disk, which is less than its size while that is being filled."""
    return path.stat().st_blocks * 512

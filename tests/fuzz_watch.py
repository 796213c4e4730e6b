"""What a mutant of `make fuzz` did beside its output, and how much memory it took."""

import os
import shutil
from pathlib import Path
from typing import Any

from fuzz_cases import OUT

Entry = tuple[Any, ...]


def tree() -> dict[str, Entry]:
    """What lies in this directory but for `out`: kind, size, time and identity."""
    found: dict[str, Entry] = {}
    for directory, names, files in os.walk("."):
        if directory == ".":
            names.remove(OUT.name)
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            state = os.lstat(path)
            is_directory = name in names
            found[path] = (
                (state.st_mode, state.st_ino)
                if is_directory
                else (state.st_mode, state.st_ino, state.st_size, state.st_mtime_ns)
            )
    return found


def changes(before: dict[str, Entry]) -> str:
    """What was written or removed outside `out`."""
    after = tree()
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return f"outside the output: {', '.join(sorted(names)[:5])}" if names else ""


def remove(path: Path) -> None:
    """Takes away whatever lies there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def resident(field: str) -> float:
    """Megabytes of this process in memory, by a field of its status."""
    with open("/proc/self/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Has VmHWM count from now on."""
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
        file.write("5")

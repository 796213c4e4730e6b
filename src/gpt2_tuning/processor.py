"""What Linux says of the processor."""

from pathlib import Path

FILE = Path("/proc/cpuinfo")


def field(name: str) -> str:
    """The first processor's field of that name, such as "flags"; nothing where there is none."""
    try:
        lines = FILE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")

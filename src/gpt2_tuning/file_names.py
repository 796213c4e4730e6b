"""What the name of a file of rows says of its content."""

from pathlib import Path

COMPRESSED = (".gz", ".zst")
"""The suffixes that come after the one which says what is inside."""


def inner_suffix(path: Path) -> str:
    """What the name says of the content, in small letters: `.csv` of rows.csv and rows.CSV.gz."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix

"""Where files are that tests read."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Files beside the repository, which not everybody has."""

"""The base that data is prepared for, as far as data depends on it."""

import dataclasses
from pathlib import Path

from gpt2_tuning.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Base:
    """What of a base matters before there is a model."""

    name: str | None
    """A Hub name or a directory; None is GPT-2 of any size."""
    tokenizer: Tokenizer
    positions: int
    """Tokens of the longest example."""
    directory: Path | None = None
    """Where its files are."""

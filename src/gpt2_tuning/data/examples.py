"""From token ids to examples: pure functions, one for each shape of task.

An example knows its own length, so nothing later has to guess where padding begins.
"""

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Example:
    """One row as the model will see it, before padding."""

    token_ids: Sequence[int]
    """1 to seq_len ids."""
    extras: Mapping[str, int]
    """What else the task stores: `label`, or `prompt_length`."""
    truncated: bool = False
    """Whether tokens were cut to fit."""


def text_example(ids: Sequence[int], label: int, seq_len: int) -> Example:
    """A single text with its class. A text that is too long keeps its first `seq_len` tokens.

    With seq_len 4:
        ids [10, 11, 12],         label 2 -> token_ids [10, 11, 12],     label 2
        ids [10, 11, 12, 13, 14], label 0 -> token_ids [10, 11, 12, 13], label 0, truncated

    Raises:
        ValueError: there are no tokens, so there is nothing to classify.
    """
    if not ids:
        raise ValueError("an example needs at least one token")
    return Example(ids[:seq_len], {"label": label}, truncated=len(ids) > seq_len)

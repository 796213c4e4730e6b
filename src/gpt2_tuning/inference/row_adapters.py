"""Rows of one batch under adapters of their own."""

from collections.abc import Sequence

import numpy as np

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.adaptable import AdaptableModel
from gpt2_tuning.models.gate import Choice


def gate_of(
    model: AdaptableModel, adapters: Sequence[Choice] | None, count: int
) -> np.ndarray | None:
    """The gate of `count` rows, as `rows_gate` gives it; None where the model's own counts.

    Raises:
        UserError: there are more or fewer adapters than rows, or there is none so called.
    """
    if adapters is None:
        return None
    gate = model.rows_gate(adapters)
    if len(adapters) != count:
        raise UserError(f"{len(adapters)} adapters for {count} rows: give one, or None, for each")
    return gate if model.gate else None

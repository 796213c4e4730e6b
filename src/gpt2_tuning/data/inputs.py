"""A batch's inputs, as models take them."""

from typing import Any, Required, TypedDict


class Inputs(TypedDict, total=False):
    """Arrays or tensors, int32; either the mask or the segments say what is padding."""

    token_ids: Required[Any]
    """[B, T]."""
    attention_mask: Any
    """[B, T], 1 = real token, 0 = padding."""
    segment_ids: Any
    """[B, T], 0 = padding, 1.. = which example of a packed row; no token sees another segment."""
    target_positions: Any
    """[B, K], of a language model: the places whose next tokens are scored."""
    last_positions: Any
    """[B, K], of a classifier's packed batch: where the last tokens of a row's examples are."""
    gate: Any
    """float32, [B] or [B, n]: the adapters of each row, from a model's `rows_gate`."""

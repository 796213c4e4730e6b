"""Labels that the head which is to learn them has no class for: refused, not learnt as nothing.

Where adapters were added, scores have room for the most classes that a head has; a label beyond its
own row's head would be learnt from a score that is none.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.models.attention import MASKED

BEYOND = (
    "a label is beyond the classes of the head of its row: each adapter has label_names of its own"
)
"""Without a quotation mark, which TensorFlow would write otherwise."""


def check(labels: Any, classes: int | Sequence[int]) -> None:
    """Looks at integer labels that are there before training, [B] or [B, 1], and at no others.

    Args:
        labels: of each row, in an array or a list.
        classes: how many there are, of all heads alike or of each row's.

    Raises:
        UserError: naming the first row whose label is none of its classes.
    """
    if not isinstance(labels, (np.ndarray, list, tuple)):
        return
    found = np.asarray(labels)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        return
    for row in np.flatnonzero(found >= np.asarray(classes)):
        most = int(np.broadcast_to(classes, found.shape)[row])
        raise UserError(
            f"label {shown(found[row].item())} of row {row} is beyond the {most} classes of its "
            f"head: labels are whole numbers from 0 to {most - 1}"
        )


def checked_in_step(labels, scores):
    """Scores [..., C] as they are, of a step that fails where an integer label has none.

    Args:
        labels: of each place, [...] or [..., 1]; of another kind or shape nothing is asked.
        scores: MASKED where a row's head has no such class.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == scores.shape.rank and labels.shape[-1] == 1:
        labels = tf.squeeze(labels, -1)
    if not labels.dtype.is_integer or labels.shape.rank != scores.shape.rank - 1:
        return scores
    above = labels >= scores.shape[-1]
    place = tf.where(above | (labels < 0), tf.zeros_like(labels), labels)
    masked = tf.gather(scores, place, batch_dims=labels.shape.rank) <= MASKED / 2
    beyond = above | (masked & (labels >= 0))
    with tf.control_dependencies([tf.debugging.assert_equal(tf.reduce_any(beyond), False, BEYOND)]):
        return tf.identity(scores)


@contextlib.contextmanager
def said() -> Iterator[None]:
    """Says in one line what a step inside the block failed by.

    Raises:
        UserError: a label had no class.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if BEYOND in str(error):
            raise UserError(BEYOND) from error
        raise

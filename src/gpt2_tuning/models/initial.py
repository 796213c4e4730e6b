"""The random values that a base's weights begin with, left out where a checkpoint brings others."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import keras

_LEFT_OUT = ContextVar("left_out", default=False)


class BaseNormal(keras.initializers.RandomNormal):
    """Normally distributed values, or zeros inside `random_values_left_out`."""

    def __call__(self, shape, dtype=None):
        """The values, of this shape and type."""
        if _LEFT_OUT.get():
            return keras.ops.zeros(shape, dtype)
        return super().__call__(shape, dtype)


def left_out() -> bool:
    """Whether random values are left out now."""
    return _LEFT_OUT.get()


@contextlib.contextmanager
def random_values_left_out() -> Iterator[None]:
    """Inside the block base weights begin as zeros: for a model that takes a checkpoint at once.

    To draw the values of a GPT-2 124M takes as long as to read the checkpoint's.
    """
    token = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(token)

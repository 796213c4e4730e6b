"""Results of a block that its gradient takes from the forward pass, where it runs the block again.

A loop over identical blocks computes each block a second time for its gradient, all but what has a
name here: its large products and its attention, which are most of the work.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar

import tensorflow as tf

from gpt2_tuning.families.decoder_config import DecoderConfig

MIXED = "attention.mixed"
"""What attention gives before its last dense layer; the other names are dense layers' places."""


def widths_of(config: DecoderConfig) -> dict[str, int]:
    """The last axis of every result of a block that is kept, [B, T, width], by its name.

    Left out is what is only added to the stream, for then no gradient needs its value.
    """
    added = {"mlp.down", "attention.out"} if config.parallel else {"mlp.down"}
    widths = {place: units for place, (_, units) in config.dense.items() if place not in added}
    return {**widths, MIXED: config.attention_width}


class Taken(dict[str, tf.Tensor]):
    """Takes what is computed, by its name."""

    def result(self, name: str, function: Callable[..., tf.Tensor], tensors) -> tf.Tensor:
        """The function's."""
        self[name] = function(*tensors)
        return self[name]


class Given:
    """Gives what was computed before; gradients pass as if it had been computed now.

    What it has not is computed.
    """

    def __init__(self, results: Mapping[str, tf.Tensor]):
        self.results = results

    def result(self, name: str, function: Callable[..., tf.Tensor], tensors) -> tf.Tensor:
        """What the function gave, or gives."""
        if name not in self.results:
            return function(*tensors)
        known = self.results[name]

        @tf.custom_gradient
        def call(*tensors):
            def backward(upstream):
                # Copies: a tape that watched the arguments themselves would count what others
                # compute from them.
                copies = [tf.identity(tensor) for tensor in tensors]
                with tf.GradientTape() as tape:
                    tape.watch(copies)
                    again = function(*copies)
                # Of `again` nothing is left but what the gradients need.
                return tape.gradient(again, copies, upstream)

            return tf.identity(known), backward

        return call(*tensors)


_current: ContextVar[Taken | Given | None] = ContextVar("kept_results", default=None)


@contextlib.contextmanager
def through(results: Taken | Given) -> Iterator[None]:
    """Inside the block the results of `kept_result` go through this."""
    token = _current.set(results)
    try:
        yield
    finally:
        _current.reset(token)


def kept_result(name: str, function: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
    """The function's result, or what it gave in the forward pass.

    Args:
        name: its own in a block.
        function: of the tensors, that reads no variable.
        tensors: what it has gradients for.
    """
    results = _current.get()
    return function(*tensors) if results is None else results.result(name, function, tensors)

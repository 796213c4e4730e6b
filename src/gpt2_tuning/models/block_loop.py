"""The blocks of a decoder as a loop over their stacked weights, which XLA compiles as one block.

The gradient is a second loop, written out here: TensorFlow's own would keep a slice of the weights
for every turn. The variables stay one a layer: stacking them has a gradient of its own, which is
one a variable again.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from gpt2_tuning.models.block import Block, DropoutSeeds
from gpt2_tuning.models.kept_results import Given, Taken, through, widths_of
from gpt2_tuning.models.rotary import Rotation
from gpt2_tuning.models.seen import Seen


def alike(blocks: Sequence[Block]) -> bool:
    """Whether the weights of all have the same names, shapes and types."""

    def kinds(block: Block) -> list[tuple]:
        return [(one.name, tuple(one.shape), one.dtype) for one in block.variables]

    return all(kinds(block) == kinds(blocks[0]) for block in blocks)


class BlockLoop:
    """Blocks that are `alike` and have equal low-rank updates, in training.

    It computes what they compute one after the other, dropout's masks included.

    Args:
        blocks: all of them, or the first.
        seen: for each block what its tokens see: bool [B, T, T], or one Seen for all.
        seed: int32 [2], of the pass's dropout.
        gate: of the low-rank updates, as LoRADense's.
        rotation: of the tokens, where positions come in so.
        rematerialize: keeps the input of each block alone for the gradient; else the results of
            its large products too.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        seen: Sequence[tf.Tensor | Seen],
        seed: tf.Tensor,
        gate: tf.Tensor | None,
        rotation: Rotation | None,
        rematerialize: bool,
    ):
        self.block, self.count = blocks[0], len(blocks)
        self.seed, self.gate, self.rotation = seed, gate, rotation
        masks = list({id(one): one for one in seen}.values())
        # Masks of layers with windows are data, chosen by the layer's number.
        self.masks: Any = masks[0] if len(masks) == 1 else tf.stack(masks)
        places = {id(one): place for place, one in enumerate(masks)}
        self.mask_numbers = None if len(masks) == 1 else [places[id(one)] for one in seen]
        self.widths = {} if rematerialize else widths_of(self.block.config)
        self.same = list(zip(*(block.variables for block in blocks), strict=True))
        self.tuned = [any(one.trainable for one in same) for same in self.same]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[B, T, width] to the same."""
        # All variables are read here: a custom gradient may not meet one.
        stacks = [tf.stack([tf.convert_to_tensor(one) for one in same]) for same in self.same]
        frozen = [stack for stack, tuned in zip(stacks, self.tuned, strict=True) if not tuned]

        @tf.custom_gradient
        def call(x, *tuned):
            y, kept = self._forward(x, tuned, frozen)
            return y, lambda upstream: self._backward(upstream, kept, tuned, frozen)

        return call(x, *(stack for stack, tuned in zip(stacks, self.tuned, strict=True) if tuned))

    def _forward(self, x, tuned, frozen):
        """The result, and by `widths` what is kept of every turn, its input first."""
        widths = [x.shape[-1], *self.widths.values()]
        arrays = [
            tf.TensorArray(x.dtype, self.count, element_shape=[*x.shape[:-1], width])
            for width in widths
        ]

        def turn(number, x, arrays):
            results = Taken()
            with through(results):
                y = self._block(x, number, [stack[number] for stack in tuned], frozen)
            kept = [x, *(results[name] for name in self.widths)]
            arrays = [array.write(number, one) for array, one in zip(arrays, kept, strict=True)]
            return number + 1, tf.ensure_shape(y, x.shape), arrays

        start = (tf.constant(0), x, arrays)
        _, y, arrays = self._loop(lambda number, *_: number < self.count, turn, start)
        return y, [array.stack() for array in arrays]

    def _backward(self, upstream, kept, tuned, frozen):
        """The gradients of x and of the tuned stacks."""
        arrays = [
            tf.TensorArray(stack.dtype, self.count, element_shape=stack.shape[1:])
            for stack in tuned
        ]

        def turn(number, upstream, arrays):
            x, *results = (one[number] for one in kept)
            sources = [x, *(stack[number] for stack in tuned)]
            given = Given(dict(zip(self.widths, results, strict=True)))
            with tf.GradientTape() as tape, through(given):
                tape.watch(sources)
                y = self._block(x, number, sources[1:], frozen)
            nothing = tf.UnconnectedGradients.ZERO
            towards_x, *found = tape.gradient(y, sources, upstream, nothing)
            arrays = [array.write(number, one) for array, one in zip(arrays, found, strict=True)]
            return number - 1, tf.ensure_shape(towards_x, x.shape), arrays

        start = (tf.constant(self.count - 1), upstream, arrays)
        _, towards_x, arrays = self._loop(lambda number, *_: number >= 0, turn, start)
        return [towards_x, *(array.stack() for array in arrays)]

    def _loop(self, condition, turn, start):
        """One turn after the other, of a number that XLA is told."""
        return tf.while_loop(
            condition, turn, start, maximum_iterations=self.count, parallel_iterations=1
        )

    def _block(self, x, number, tuned, frozen):
        """The code of the first block on the weights of that with this number, int32 []."""
        tuned, frozen = iter(tuned), iter(frozen)
        weights = [next(tuned) if one else next(frozen)[number] for one in self.tuned]
        variables = (same[0] for same in self.same)
        visible = self.masks
        if self.mask_numbers is not None:
            visible = self.masks[tf.constant(self.mask_numbers)[number]]
        # The embeddings' dropout has the seed itself, so blocks begin with the next.
        seeds = DropoutSeeds.of_block(self.seed, number + 1)
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return self.block(
                x, visible=visible, seeds=seeds, gate=self.gate, rotation=self.rotation
            )

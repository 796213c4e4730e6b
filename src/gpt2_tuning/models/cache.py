"""Keys and values of tokens computed before, so that decoding computes each token once."""

from typing import NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla


class Cache(NamedTuple):
    """Keys and values of the tokens computed so far, for decoding one token after another.

    Every row is filled at the same slots, so shorter prompts are padded on the left.
    """

    keys: tuple[tf.Tensor, ...]  # one a layer: [B, kv_heads, slots, head_size]
    values: tuple[tf.Tensor, ...]  # one a layer: [B, kv_heads, slots, head_size]
    mask: tf.Tensor  # int32 [B, slots], 1 where the slot holds a real token
    filled: tf.Tensor  # int32 scalar: slots used so far

    def grown(self, extra) -> "Cache":
        """The same with `extra` more slots, empty ones, behind the others."""
        keys, values = (
            tuple(tf.pad(part, [[0, 0], [0, 0], [0, extra], [0, 0]]) for part in parts)
            for parts in (self.keys, self.values)
        )
        return Cache(keys, values, tf.pad(self.mask, [[0, 0], [0, extra]]), self.filled)

    def write(self, slots, new):
        """Puts keys or values of new tokens into those of a layer, from the slot `filled` on."""
        return write_slots(slots, new, self.filled)

    def masked(self, new):
        """The mask with that of new tokens, int32 [B, T]."""
        return write_mask(self.mask, new, self.filled)


class FixedCache(Cache):
    """The same, written into by what XLA compiles: where to, need not be known when it compiles.

    XLA alone has these operations, and has no others that write in place.
    """

    __slots__ = ()

    def write(self, slots, new):
        """As Cache's."""
        start = tf.stack([0, 0, self.filled, 0])
        return xla.dynamic_update_slice(slots, tf.cast(new, slots.dtype), start)

    def masked(self, new):
        """As Cache's."""
        start = tf.stack([0, self.filled])
        return xla.dynamic_update_slice(self.mask, tf.cast(new, self.mask.dtype), start)


def visible_slots(mask, filled, new: tf.Tensor) -> tf.Tensor:
    """Which of the cache's slots each of `new` tokens, written from slot `filled`, sees.

    Args:
        mask: int32 [B, slots], 1 where a slot holds a real token.

    Returns:
        bool [B, new, slots].
    """
    rows = filled + tf.range(new)
    causal = rows[:, tf.newaxis] >= tf.range(tf.shape(mask)[1])
    return causal & tf.cast(mask, tf.bool)[:, tf.newaxis, :]


def positions_of_slots(mask) -> tf.Tensor:
    """The positions of the tokens in a cache's slots, int32 [B, slots], from its mask of the same.

    A slot that holds none has the position of the token before it.
    """
    return tf.cumsum(mask, axis=1) - 1


def write_slots(slots, new, start):
    """Puts `new` [B, heads, T, head_size] into `slots` [B, heads, S, head_size] from `start`.

    Inside a loop this writes in place, since nothing else holds the old slots there. Not so a
    concatenation, or `tf.tensor_scatter_nd_update`: those copy the whole cache for every token.
    """
    count = new.shape[2] or tf.shape(new)[2]
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=slots,
        begin=tf.stack([0, 0, start, 0]),
        end=tf.stack([0, 0, start + count, 0]),
        strides=[1, 1, 1, 1],
        value=tf.cast(new, slots.dtype),
        begin_mask=0b1011,  # all but the third axis are taken whole
        end_mask=0b1011,
    )


def write_mask(mask, new, start):
    """Puts `new` int32 [B, T] into `mask` int32 [B, S] from slot `start`."""
    new = tf.cast(new, mask.dtype)
    written = tf.concat([mask[:, :start], new, mask[:, start + tf.shape(new)[1] :]], axis=1)
    written.set_shape(mask.shape)
    return written

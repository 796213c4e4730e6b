"""TensorFlow's stateless uniform numbers as arithmetic on arrays, for what XLA compiles.

XLA has another way from random bits to numbers, and draws for one seed at a time. These are to the
bit the numbers that `tf.random.stateless_uniform` gives elsewhere, for many seeds at once.
"""

from collections.abc import Sequence

import tensorflow as tf

FACTORS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)
"""The constants of Philox4x32 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405)."""
ROUNDS = 10
SCRAMBLING_KEY = (0x3EC8F720, 0x02461E29)
"""Under which TensorFlow makes a key and a counter of a seed."""


def uniform(seeds, count: int) -> tf.Tensor:
    """`count` numbers from 0 to below 1 for each row's seed: float32 [B, count].

    Args:
        seeds: int64 [B, 2].
        count: at least 1, and known when it is compiled.
    """
    low, high = halves(tf.bitcast(seeds, tf.uint64))
    key = [constant(word) for word in SCRAMBLING_KEY]
    mixed = philox([low[:, :1], high[:, :1], low[:, 1:], high[:, 1:]], key)  # [B, 1] each
    numbers = tf.cast(tf.range(-(-count // 4)), tf.uint32)[tf.newaxis]
    nothing = tf.zeros_like(numbers)
    words = philox([numbers, nothing, mixed[2], mixed[3]], mixed[:2])  # [B, count / 4] each
    bits = tf.reshape(tf.stack(words, axis=2), [seeds.shape[0] or -1, 4 * numbers.shape[1]])
    # As fractions of numbers from 1 to 2, whose exponents are all the same.
    fractions = tf.bitwise.bitwise_and(bits[:, :count], constant(0x7FFFFF))
    return tf.bitcast(tf.bitwise.bitwise_or(fractions, constant(0x3F800000)), tf.float32) - 1.0


def philox(counter: Sequence[tf.Tensor], key: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Four random words, uint32, for a counter of four and a key of two, all of like shapes."""
    first, second, third, fourth = counter
    for number in range(ROUNDS):
        keys = [word + constant(number * step) for word, step in zip(key, STEPS, strict=True)]
        low, high = halves(tf.cast(first, tf.uint64) * tf.constant(FACTORS[0], tf.uint64))
        other_low, other_high = halves(
            tf.cast(third, tf.uint64) * tf.constant(FACTORS[1], tf.uint64)
        )
        first, second = other_high ^ second ^ keys[0], other_low
        third, fourth = high ^ fourth ^ keys[1], low
    return [first, second, third, fourth]


def halves(x) -> tuple[tf.Tensor, tf.Tensor]:
    """The low and the high 32 bits of uint64, each uint32."""
    high = tf.bitwise.right_shift(x, tf.constant(32, tf.uint64))
    return tf.cast(x, tf.uint32), tf.cast(high, tf.uint32)


def constant(word: int) -> tf.Tensor:
    """A word of 32 bits; of a larger number the low ones."""
    return tf.constant(word % 2**32, tf.uint32)

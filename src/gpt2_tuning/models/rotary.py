"""Queries and keys rotated by their positions: a score depends on how far apart they are."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt2_tuning.families.rotary import Rotary
from gpt2_tuning.models.kernels import compile_it, leading_sizes


class Rotation(NamedTuple):
    """What channel i of a head is multiplied by, and the other of its pair, for every token."""

    cosines: tf.Tensor  # float32 [B, T, 1, channels]
    sines: tf.Tensor  # float32 [B, T, 1, channels], those of the first half negative


def rotation_of(positions: tf.Tensor, rotary: Rotary, channels: int) -> Rotation:
    """The rotation of tokens at `positions`, int32 [B, T]; channels i and i + half are a pair.

    `channels` is how many of a head are rotated.
    """
    angles = tf.cast(positions, tf.float32)[:, :, tf.newaxis] * frequencies(rotary, channels)
    angles = angles[:, :, tf.newaxis]
    factor = rotary.attention_factor
    cosines, sines = tf.cos(angles) * factor, tf.sin(angles) * factor
    return Rotation(tf.concat([cosines, cosines], -1), tf.concat([-sines, sines], -1))


def frequencies(rotary: Rotary, channels: int) -> np.ndarray:
    """Radians a position for each pair of channels, float32 [channels / 2]."""
    pairs = np.arange(0, channels, 2, dtype=np.float32) / np.float32(channels)
    plain = (1 / np.float32(rotary.base) ** pairs).astype(np.float32)
    if rotary.scaling == "linear":
        return plain / np.float32(rotary.factor)
    if rotary.scaling == "llama3":
        return by_turns(plain, rotary).astype(np.float32)
    if rotary.scaling == "yarn":
        return by_pairs(plain, rotary, channels).astype(np.float32)
    # `dynamic` changes the base in rows that are longer than a model's positions alone. Those are
    # refused (`Decoder.call`): keys that are cached already would have to be rotated anew.
    return plain


def by_turns(plain: np.ndarray, rotary: Rotary) -> np.ndarray:
    """As Llama 3.1 has it: what turns slowly is slowed down, what turns fast stays."""
    turns = rotary.original_positions * plain / (2 * math.pi)
    low, high = rotary.low_freq_factor, rotary.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return plain * ((1 - kept) / rotary.factor + kept)


def by_pairs(plain: np.ndarray, rotary: Rotary, channels: int) -> np.ndarray:
    """As YaRN has it: between two pairs of channels the slowing down grows evenly."""

    def pair_of(turns: float) -> float:
        across = math.log(rotary.original_positions / (turns * 2 * math.pi))
        return channels * across / (2 * math.log(rotary.base))

    first, last = pair_of(rotary.beta_fast), pair_of(rotary.beta_slow)
    if rotary.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, channels - 1)
    last += 0.001 if first == last else 0
    slowed = np.clip((np.arange(channels // 2) - first) / (last - first), 0, 1)
    return plain * (slowed / rotary.factor + (1 - slowed))


def rotated(x, rotation: Rotation, compiled: bool):
    """x, [B, T, heads, head_size], rotated; the gradient is rotated back, and keeps nothing.

    Channels beyond those of the rotation stay as they are.
    """
    turn = compiled_turn if compiled else turned

    # All it computes with is an argument: a loop over blocks cannot differentiate what is not.
    @tf.custom_gradient
    def call(x, cosines, sines):
        return turn(x, cosines, sines), lambda upstream: (
            turn(upstream, cosines, -sines),
            None,
            None,
        )

    return call(x, *rotation)


def turned(x, cosines, sines):
    """As `rotated`, without its gradient."""
    channels = cosines.shape[-1]
    if channels < x.shape[-1]:
        part = turned(x[..., :channels], cosines, sines)
        return tf.concat([part, x[..., channels:]], axis=-1)
    exact = tf.cast(x, tf.float32)
    # The halves in turn; `tf.roll` takes four times as long for the few tokens of a decoding step.
    pairs = tf.reshape(exact, [*leading_sizes(exact), 2, channels // 2])
    others = tf.reshape(tf.reverse(pairs, [-2]), [*leading_sizes(exact), channels])
    return tf.cast(exact * cosines + others * sines, x.dtype)


@compile_it
def compiled_turn(x, cosines, sines):
    """As `turned`, to the bit, in the form of which XLA makes the fastest loops on a CPU."""
    channels, half = cosines.shape[-1], cosines.shape[-1] // 2
    first, second, rest = tf.split(x, [half, half, x.shape[-1] - channels], axis=-1)
    exact_first, exact_second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    cosines, sines = cosines[..., :half], sines[..., half:]
    parts = (
        exact_first * cosines - exact_second * sines,
        exact_second * cosines + exact_first * sines,
    )
    return tf.concat([*(tf.cast(part, x.dtype) for part in parts), rest], axis=-1)

"""Mistakes in what GPT-NeoX has of its own: which channels turn, where a block's parts lie.

As those of `test_family_parity.py`, which counts them among its own.
"""

import dataclasses

import tensorflow as tf

from gpt2_tuning.models import decoder, rotary

turned = rotary.turned
rotation_of = decoder.rotation_of


def all_queries_first(model):
    """Reads the fused layer as GPT-2's is read."""
    for block in model.transformer.blocks:
        config = block.attention.config
        block.attention.config = dataclasses.replace(config, fused_by_head=False)


def norms_exchanged(model):
    """Has attention read the norm of the MLP, and the MLP that of attention."""
    for block in model.transformer.blocks:
        for name in ("gamma", "beta"):
            first, second = getattr(block.norm_1, name), getattr(block.norm_2, name)
            value = first.numpy()
            first.assign(second.numpy())
            second.assign(value)


def last_channels(x, cosines, sines):
    """The last of a head are rotated in place of the first."""
    kept = x.shape[-1] - cosines.shape[-1]
    return tf.concat([x[..., :kept], turned(x[..., kept:], cosines, sines)], -1)


def whole_pairs(x, cosines, sines):
    """A channel's pair is half a head further on, not half of what is rotated."""
    channels = cosines.shape[-1]
    others = tf.roll(x, x.shape[-1] // 2, axis=-1)[..., :channels]
    return tf.concat([x[..., :channels] * cosines + others * sines, x[..., channels:]], -1)


def whole_frequencies(patch):
    """The frequencies are the first of a head that is rotated as a whole."""

    def rotation(positions, scaled, channels):
        cosines, sines = (part[..., : channels // 2] for part in whole(positions, scaled, channels))
        return rotary.Rotation(tf.concat([cosines] * 2, -1), tf.concat([sines, -sines], -1))

    def whole(positions, scaled, channels):
        return rotation_of(positions, scaled, 2 * channels)

    patch.setattr(decoder, "rotation_of", rotation)


MISTAKES = {"all queries first": all_queries_first, "norms exchanged": norms_exchanged}
PATCHES = {
    "last channels rotated": lambda patch: patch.setattr(rotary, "turned", last_channels),
    "pairs of the whole head": lambda patch: patch.setattr(rotary, "turned", whole_pairs),
    "frequencies of the whole head": whole_frequencies,
}

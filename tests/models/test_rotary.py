"""Queries and keys are rotated by their positions."""

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.families.rotary import Rotary
from gpt2_tuning.models.rotary import rotated, rotation_of

ROTARY = Rotary(1e3)
POSITIONS = tf.constant([[0, 1, 2, 3, 4]])


@pytest.mark.parametrize("compiled", [False, True])
def test_channels_beyond_the_share_stay_and_the_others_turn_as_if_they_were_all(compiled):
    x = tf.random.stateless_normal([1, 5, 2, 16], [0, 1])
    rotation = rotation_of(POSITIONS, ROTARY, 4)
    alone = rotated(x[..., :4], rotation, compiled=False)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = rotated(x, rotation, compiled=compiled)
    np.testing.assert_allclose(found, tf.concat([alone, x[..., 4:]], -1), atol=1e-6)
    gradient = tape.gradient(found, x, found)
    np.testing.assert_allclose(gradient, x, atol=1e-6)  # rotated back

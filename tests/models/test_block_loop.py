"""Identical blocks can be compiled once: a loop over their stacked weights is the decoder."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.models.block import DropoutSeeds
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.inputs import visible_tokens

pytestmark = pytest.mark.usefixtures("all_bits")


def looped(model, x, visible, seed, stacked):
    """The blocks' result, [B, T, width], by one block's code on each layer's slices in turn."""
    block = model.transformer.blocks[0]

    def turn(layer, x):
        with keras.StatelessScope() as scope:
            for variable, values in zip(block.variables, stacked, strict=True):
                scope.add_update((variable, values[layer]))
            seeds = DropoutSeeds.of_block(seed, layer + 1)
            return layer + 1, block(x, visible, seeds, model.gate_of_pass())

    layers = len(model.transformer.blocks)
    loop = tf.while_loop(lambda layer, x: layer < layers, turn, (tf.constant(0), x))
    return tf.ensure_shape(loop[1], x.shape)


def unrolled(model, x, visible, seed):
    for number, block in enumerate(model.transformer.blocks):
        x = block(x, visible, DropoutSeeds.of_block(seed, number + 1), model.gate_of_pass())
    return x


@pytest.mark.parametrize("lora", [None, {"rank": 2, "dropout": 0.3}], ids=["full", "lora"])
def test_a_loop_over_stacked_weights_gives_the_unrolled_loss_gradients_and_masks(
    small_config, lora
):
    config = dataclasses.replace(small_config, n_layer=3, attn_pdrop=0.2, resid_pdrop=0.2)
    model = randomize(GPT2Model(config, lora=lora).built_now())
    blocks, seed = model.transformer.blocks, tf.constant([5, 7])
    inputs = inputs_of([[1, 2, 3, 4], [5, 6]])
    visible, x = visible_tokens(inputs), model.transformer.tokens(inputs["token_ids"])

    def in_a_loop():
        # Stacking differentiates back into one gradient a layer's variable.
        stacked = [
            tf.stack([tf.convert_to_tensor(variable) for variable in same])
            for same in zip(*(block.variables for block in blocks), strict=True)
        ]
        return looped(model, x, visible, seed, stacked)

    def loss_and_gradients(compute):
        with tf.GradientTape() as tape:
            states = compute()
            loss = tf.reduce_sum(
                states * tf.reshape(tf.linspace(0.0, 1.0, tf.size(states)), states.shape)
            )
        variables = [v.value for block in blocks for v in block.trainable_variables]
        return [loss, states, *tape.gradient(loss, variables)]

    results = tf.function(lambda: loss_and_gradients(in_a_loop), autograph=False)()
    expected = tf.function(
        lambda: loss_and_gradients(lambda: unrolled(model, x, visible, seed)), autograph=False
    )()
    for found, wanted in zip(results, expected, strict=True):
        scale = tf.reduce_max(tf.abs(wanted))
        np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-6)
    states = expected[1].numpy()
    other = unrolled(model, x, visible, seed + 1).numpy()
    assert np.abs(states - other).max() > 0.1

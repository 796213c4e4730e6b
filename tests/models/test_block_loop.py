"""Identical blocks can be compiled once: a loop over their stacked weights is the decoder."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of, randomize

from gpt2_tuning.models.backbone import Backbone
from gpt2_tuning.models.block import DropoutSeeds
from gpt2_tuning.models.inputs import positions_of, visible_tokens

pytestmark = pytest.mark.usefixtures("all_bits")


COMMON = {
    **{"vocab_size": 97, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3},
    **{"attention_bias": True, "attention_dropout": 0.2, "initializer_range": 0.2},
}
OTHERS: dict[str, dict[str, Any]] = {
    "qwen3": {
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
        **{"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 1},
    },
    "gpt_neox": {"num_attention_heads": 2, "rotary_pct": 0.5, "hidden_dropout": 0.2},
}
"""Decoders with what GPT-2 has not: layers that differ in their windows, heads that share keys;
attention and MLP side by side, rotary positions on a part of each head."""


def looped(model, x, seen, rotation, seed, stacked):
    """The blocks' result, [B, T, width], by one block's code on each layer's slices in turn."""
    block, seen = model.transformer.blocks[0], tf.stack(seen)

    def turn(layer, x):
        with keras.StatelessScope() as scope:
            for variable, values in zip(block.variables, stacked, strict=True):
                scope.add_update((variable, values[layer]))
            seeds = DropoutSeeds.of_block(seed, layer + 1)
            gate = model.gate_of_pass()
            return layer + 1, block(x, seen[layer], seeds, gate, rotation=rotation)

    layers = len(model.transformer.blocks)
    loop = tf.while_loop(lambda layer, x: layer < layers, turn, (tf.constant(0), x))
    return tf.ensure_shape(loop[1], x.shape)


def unrolled(model, x, seen, rotation, seed):
    for number, (block, visible) in enumerate(zip(model.transformer.blocks, seen, strict=True)):
        seeds = DropoutSeeds.of_block(seed, number + 1)
        x = block(x, visible, seeds, model.gate_of_pass(), rotation=rotation)
    return x


@pytest.mark.parametrize(
    ("family", "targets"),
    [("gpt2", None), ("gpt2", ("all-linear",)), *((family, ("all-linear",)) for family in OTHERS)],
    ids=["gpt2-full", "gpt2-lora", *(f"{family}-lora" for family in OTHERS)],
)
def test_a_loop_over_stacked_weights_gives_the_unrolled_loss_gradients_and_masks(
    small_config, family, targets
):
    config = dataclasses.replace(small_config, n_layer=3, attn_pdrop=0.2, resid_pdrop=0.2)
    other = {"model_type": family, **COMMON, **OTHERS.get(family, {})}
    lora = targets and {"rank": 2, "dropout": 0.3, "targets": targets}
    model = Backbone(config if family == "gpt2" else other, lora=lora).built_now()
    randomize(model)
    blocks, seed = model.transformer.blocks, tf.constant([5, 7])
    inputs = inputs_of([[1, 2, 3, 4], [5, 6]])
    visible = visible_tokens(inputs)
    positions = positions_of(visible)
    seen = model.transformer.seen_by_layers(visible, positions, positions)
    x, rotation = model.transformer.embedded(inputs, positions, None)

    def in_a_loop():
        # Stacking differentiates back into one gradient a layer's variable.
        stacked = [
            tf.stack([tf.convert_to_tensor(variable) for variable in same])
            for same in zip(*(block.variables for block in blocks), strict=True)
        ]
        return looped(model, x, seen, rotation, seed, stacked)

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
        lambda: loss_and_gradients(lambda: unrolled(model, x, seen, rotation, seed)),
        autograph=False,
    )()
    for found, wanted in zip(results, expected, strict=True):
        scale = tf.reduce_max(tf.abs(wanted))
        np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-5)
    states = expected[1].numpy()
    otherwise = unrolled(model, x, seen, rotation, seed + 1).numpy()
    assert np.abs(states - otherwise).max() > 0.1

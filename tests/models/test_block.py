"""What a block computes, written out from its parts."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.families import known
from gpt2_tuning.models import kernels
from gpt2_tuning.models.block import Block
from gpt2_tuning.models.rotary import rotation_of

pytestmark = pytest.mark.usefixtures("all_bits")

SMALL = known.config_of(
    {
        "model_type": "gpt_neox",
        **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "rotary_pct": 0.5, "initializer_range": 0.2},
    }
).decoder
X = tf.random.stateless_normal([2, 5, 32], [0, 1])
VISIBLE = tf.repeat((tf.range(5)[:, tf.newaxis] >= tf.range(5))[tf.newaxis], 2, axis=0)
POSITIONS = tf.repeat(tf.range(5)[tf.newaxis], 2, axis=0)


def made(**changes):
    """A block of which every weight matters, and what rotates its queries and keys."""
    config = dataclasses.replace(SMALL, **changes)
    block = Block(config, {})
    block.build((None, None, config.width))
    rng = np.random.default_rng(1)
    for variable in block.weights:
        variable.assign(variable + rng.normal(0, 0.2, variable.shape))
    assert config.rotary
    return block, rotation_of(POSITIONS, config.rotary, config.rotated)


@pytest.mark.parametrize("parallel", [False, True])
def test_the_mlp_reads_the_stream_before_attention_or_after_it(parallel):
    block, rotation = made(parallel=parallel)
    attended = block.attention(block.norm_1(X), VISIBLE, rotation=rotation)
    read = X if parallel else X + attended
    expected = X + attended + block.mlp(block.norm_2(read))
    np.testing.assert_allclose(block(X, VISIBLE, rotation=rotation), expected, atol=1e-5)
    at = tf.constant([[4, 1], [0, 2]])
    found = block(X, VISIBLE, at=at, rotation=rotation)
    np.testing.assert_allclose(found, tf.gather(expected, at, batch_dims=1), atol=1e-5)


def test_a_fused_layer_by_head_is_the_other_with_its_columns_in_another_order():
    block, rotation = made()
    expected = block(X, VISIBLE, rotation=rotation)
    qkv, config = block.attention.qkv, block.attention.config
    columns = np.arange(3 * 32).reshape(config.heads, 3, config.head_size)
    order = columns.transpose(1, 0, 2).reshape(-1)
    qkv.kernel.assign(qkv.kernel.numpy()[:, order])
    qkv.bias.assign(qkv.bias.numpy()[order])
    assert np.abs(block(X, VISIBLE, rotation=rotation) - expected).max() > 0.1
    block.attention.config = dataclasses.replace(config, fused_by_head=False)
    np.testing.assert_allclose(block(X, VISIBLE, rotation=rotation), expected, atol=1e-5)


def test_gelu_is_that_of_the_config():
    for name, activation in (("gelu", kernels.exact_gelu), ("gelu_tanh", kernels.gelu)):
        block, _ = made(mlp=name)
        expected = block.mlp.down(activation(block.mlp.up(X), compiled=False))
        np.testing.assert_array_equal(block.mlp(X), expected)
    x = tf.linspace(-4.0, 4.0, 101)
    by_erf = x * (1 + tf.math.erf(x / np.sqrt(2))) / 2
    np.testing.assert_allclose(kernels.exact_gelu(x, compiled=False), by_erf, atol=1e-6)

"""Replicas drop different values; a single device drops what it dropped before."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import inputs_of

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.device_choices import CPU, GPU, choosing
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.replicas import Dropout
from gpt2_tuning.training.strategy import make_strategy

INPUTS = inputs_of([[3, 4, 5, 6]])
IN_BLOCKS = dataclasses.replace(GPU, attention_block=2, attention_blocks_from=4)


def config(rate):
    rates = {"embd_pdrop": rate, "attn_pdrop": rate, "resid_pdrop": rate}
    return GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=8, vocab_size=11, **rates)


def of_each_replica(make):
    """What a model of two replicas makes of the same rows in training."""
    strategy = make_strategy("mirrored")
    with strategy.scope():
        model = make().built_now()
    found = strategy.run(tf.function(lambda: model(INPUTS, training=True)))
    return [value.numpy() for value in strategy.experimental_local_results(found)]


@pytest.mark.parametrize("choices", [CPU, IN_BLOCKS], ids=["CPU", "attention in blocks"])
def test_the_rows_of_replicas_lose_different_values(choices):
    with choosing(choices):
        first, second = of_each_replica(lambda: GPT2Model(config(0.5)))
        assert not np.allclose(first, second)
        first, second = of_each_replica(lambda: GPT2Model(config(0.0)))
        assert np.array_equal(first, second)


def test_so_do_those_that_a_classifier_scores():
    """All that drops is before the head: one of random rows would differ anyway."""

    def make():
        model = GPT2Classifier(config(0.0), num_classes=2)
        model.dropout = Dropout(0.5)
        return model

    first, second = of_each_replica(make)
    assert not np.allclose(first, second)


def test_a_single_device_drops_what_kerass_layer_drops():
    values = tf.random.normal([4, 8])
    ours, kerass = Dropout(0.3, seed=7), keras.layers.Dropout(0.3, seed=7)
    for _ in range(3):
        assert np.array_equal(ours(values, training=True), kerass(values, training=True))
    assert ours(values, training=False) is values

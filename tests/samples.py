"""Inputs and weights that several test files need."""

import keras
import numpy as np
import tensorflow as tf

from gpt2_tuning.training.optimizer import OfSummedGradients


class Descent(OfSummedGradients, keras.optimizers.SGD):
    """Plain descent: what a weight moves by is its gradient."""


def inputs_of(rows, length=None, pad=0):
    """Rows of token ids as model inputs, padded on the right."""
    length = length or max(map(len, rows))
    ids = np.full((len(rows), length), pad, np.int32)
    mask = np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"token_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}


def randomize(model, seed=0):
    """Gives a built model weights of which none is zero or one, biases and gains included."""
    rng = np.random.default_rng(seed)
    for name, variable in model.base_weights().items():
        gain = 1.0 if ".weight" in name and ("ln_" in name or "norm" in name) else 0.0
        variable.assign(rng.normal(gain, 0.2, variable.shape))
    for variable in model.head_weights().values():
        variable.assign(rng.normal(0, 0.5, variable.shape))
    for layer in model.lora_layers().values():
        layer.lora_B.assign(rng.normal(0, 0.2, layer.lora_B.shape))
    return model

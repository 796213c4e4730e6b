"""What the weights of a model from nothing begin as."""

import keras
import numpy as np
import pytest

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier


def test_kernels_begin_with_gpt2s_spreads():
    """initializer_range, and 1 / sqrt(2 n_layer) of it where a kernel writes into the stream."""
    keras.utils.set_random_seed(0)
    config = GPT2Config(
        n_layer=3, n_embd=96, n_head=2, n_positions=64, vocab_size=97, initializer_range=0.05
    )
    model = GPT2Classifier(config, 50).built_now()
    weights = {**model.base_weights(), **model.head_weights()}
    spreads = {name: np.std(weight) for name, weight in weights.items() if len(weight.shape) == 2}
    assert len(spreads) == 4 * 3 + 3
    for name, spread in spreads.items():
        expected = 0.05 / np.sqrt(2 * 3) if "c_proj" in name else 0.05
        assert spread == pytest.approx(expected, rel=0.05), name

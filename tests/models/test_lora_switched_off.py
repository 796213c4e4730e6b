"""A switched-off adapter is not computed with, whatever its weights hold."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model

from gpt2_tuning.inference.generation import generate
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

LORA = {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]}
PROMPTS = [[1, 2, 3], [4, 5]]


def generated(model):
    return [found.token_ids for found in generate(model, PROMPTS, max_new_tokens=6)]


def predicted(model, inputs):
    return model.predict(inputs, verbose=0)


def in_a_graph(model):
    return tf.function(lambda inputs: model(inputs, training=False))


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_with_lora_off_the_model_is_its_base_whatever_the_adapter_holds(factor, bad):
    base = small_model(GPT2LanguageModel, SMALL)
    model = small_model(GPT2LanguageModel, SMALL, LORA)
    inputs = batch(SMALL)
    expected, expected_text = outputs(base, inputs), generated(base)
    traced, traced_base = map(in_a_graph, (model, base))
    for found in (traced(inputs), predicted(model, inputs)):  # traced while the adapter is on
        assert np.abs(np.asarray(found) - expected).max() > 1e-3
    for layer in model.lora_layers().values():
        variable = getattr(layer, factor)
        variable.assign(np.full(variable.shape, bad, np.float32))
    assert not np.isfinite(outputs(model, inputs)).all()
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(model, inputs), expected)
        np.testing.assert_array_equal(traced(inputs), traced_base(inputs))
        np.testing.assert_array_equal(predicted(model, inputs), predicted(base, inputs))
        assert generated(model) == expected_text


def test_gradients_of_a_switched_off_adapter_are_zero_and_not_nan():
    model = small_model(GPT2LanguageModel, SMALL, LORA)
    inputs = batch(SMALL)
    adapters = [v for layer in model.lora_layers().values() for v in (layer.lora_A, layer.lora_B)]
    adapters[0].assign(keras.ops.full(adapters[0].shape, np.nan))
    with model.disable_lora(), tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs, training=True) ** 2)
    for gradient in tape.gradient(loss, [variable.value for variable in adapters]):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))

"""What a pass multiplies the low-rank updates by, and that a merged model computes none."""

import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.generation import generate
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model

pytestmark = pytest.mark.usefixtures("all_bits")

LORA = {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]}
HEADS = [GPT2Model, GPT2LanguageModel, GPT2Classifier]


def products(model):
    """How many matrix products a pass has, attention's among them."""
    graph = tf.function(lambda inputs: model(inputs)).get_concrete_function(batch(SMALL)).graph
    functions = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
    operations = [operation for one in functions for operation in one.get_operations()]
    return sum("MatMul" in operation.type for operation in operations)


@pytest.mark.parametrize("model_class", HEADS)
def test_a_gate_that_is_given_stands_in_for_the_models_own(model_class):
    model, inputs = small_model(model_class, SMALL, LORA), batch(SMALL)
    on = outputs(model, inputs)
    with model.disable_lora():
        off = outputs(model, inputs)
        np.testing.assert_allclose(model(inputs, gate=1.0), on, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(model(inputs, gate=0.0), off)
    assert np.abs(on - off).max() > 0.1


@pytest.mark.parametrize("model_class", HEADS)
def test_each_row_can_have_a_gate_of_its_own(model_class):
    model, inputs = small_model(model_class, SMALL, LORA), batch(SMALL)
    rows = len(inputs["token_ids"])
    shares = np.linspace(0, 1, rows, dtype=np.float32)
    together = model(inputs, gate=shares.reshape(rows, 1, 1))
    for row, share in enumerate(shares):
        alone = model(inputs, gate=float(share))
        np.testing.assert_allclose(together[row], alone[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", HEADS)
def test_a_merged_model_has_the_products_of_one_without_lora(model_class):
    model = small_model(model_class, SMALL, LORA)
    before, plain = products(model), products(small_model(model_class, SMALL, None))
    assert before == plain + 2 * len(model.lora_layers())
    model.merge()
    assert products(model) == plain
    model.unmerge()
    assert products(model) == before


def test_what_was_traced_before_a_merge_or_after_it_computes_the_same():
    model, inputs = small_model(GPT2Classifier, SMALL, LORA), batch(SMALL)
    model.compile(jit_compile=False)
    own = tf.function(lambda inputs: model(inputs, training=False))

    def everywhere():
        return own(inputs), model.predict(inputs, verbose=0), model.forward(inputs)

    expected = outputs(model, inputs)
    everywhere()
    for change in (model.merge, model.unmerge):
        change()
        for found in everywhere():
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_function_traced_while_merged_says_so_when_the_updates_are_taken_out_again():
    model, inputs = small_model(GPT2Model, SMALL, LORA), batch(SMALL)
    model.merge()
    own = tf.function(lambda inputs: model(inputs, training=False))
    own(inputs)
    model.unmerge()
    with pytest.raises(tf.errors.InvalidArgumentError, match="traced while the model was merged"):
        own(inputs)


def test_a_merged_model_generates_the_same_tokens():
    model = small_model(GPT2LanguageModel, SMALL, LORA)
    prompts = [[1, 2, 3], [4, 5]]
    expected = [row.token_ids for row in generate(model, prompts, max_new_tokens=6)]
    model.merge()
    assert [row.token_ids for row in generate(model, prompts, max_new_tokens=6)] == expected
    model.unmerge()
    assert [row.token_ids for row in generate(model, prompts, max_new_tokens=6)] == expected


def test_a_gate_is_refused_while_the_updates_are_merged():
    model, inputs = small_model(GPT2Model, SMALL, LORA), batch(SMALL)
    model.merge()
    with pytest.raises(UserError, match=r"a gate on a merged model: call unmerge\(\) first"):
        model(inputs, gate=0.0)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (3, 1, 2), (3, 1, 1, 1)])
def test_a_gate_of_another_shape_is_refused(shape):
    model, inputs = small_model(GPT2Model, SMALL, LORA), batch(SMALL)
    with pytest.raises(UserError, match="a gate is one number, or one a row"):
        model(inputs, gate=np.ones(shape))
    with pytest.raises(UserError, match="a gate needs a model with LoRA"):
        small_model(GPT2Model, SMALL, None)(inputs, gate=1.0)


def test_a_number_a_row_may_be_of_any_type_and_of_one_axis():
    model, inputs = small_model(GPT2Model, SMALL, LORA), batch(SMALL)
    wanted = model(inputs, gate=np.array([0.0, 0.5, 1.0]).reshape(3, 1, 1))
    np.testing.assert_array_equal(model(inputs, gate=np.array([0.0, 0.5, 1.0])), wanted)

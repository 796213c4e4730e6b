"""PiSSA and OLoRA: adapters that begin as a part of the kernels, and are saved without it."""

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model
from safetensors.numpy import load_file

from gpt2_tuning.config import LoRAUpdate
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.adapters import adapter_variables, read_adapter_config
from gpt2_tuning.models import kernels
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.lora import LoRADense
from gpt2_tuning.models.principal import beginning
from gpt2_tuning.training.objectives import CrossEntropy

pytestmark = pytest.mark.usefixtures("all_bits")

COMMON: dict[str, Any] = {"rank": 3, "alpha": 6, "targets": ["attn.c_attn", "mlp.c_proj"]}
INITS = ("pissa", "olora")


def begun(init, **more):
    """A model that computes as its base, from which its adapter begins."""
    return small_model(GPT2LanguageModel, SMALL, {**COMMON, "init": init, **more})


def tuned(init, **more):
    """The same, its factors a way from where they began."""
    model, random = begun(init, **more), np.random.default_rng(1)
    for variable in adapter_variables(model).values():
        variable.assign(variable + random.normal(0, 0.1, variable.shape))
    return model


def outputs_of_base(model, inputs):
    with model.disable_lora():
        return outputs(model, inputs)


def test_pissa_takes_the_largest_singular_values_and_olora_the_first_directions():
    kernel = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    sizes = np.linalg.svd(kernel, compute_uv=False)
    a, b = beginning(kernel, 2, 1.5, "pissa")
    left = np.linalg.svd(kernel - 1.5 * (a @ b), compute_uv=False)
    np.testing.assert_allclose(left[:4], sizes[2:], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=1), rtol=1e-4)
    a, b = beginning(kernel, 2, 1.5, "olora")
    np.testing.assert_allclose(b @ b.T, np.eye(2), atol=1e-5)
    np.testing.assert_allclose((a @ b) @ b.T, kernel @ b.T, atol=1e-4)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_layer_goes_without_what_its_update_began_as(rate):
    layer = LoRADense(7, update=LoRAUpdate(2, 1.5, rate, init="pissa"), place="x")
    layer.build((None, None, 5))
    random = np.random.default_rng(0)
    layer.kernel.assign(random.normal(size=(5, 7)))
    layer.factors().begin(layer.kernel.numpy(), "pissa")
    x, on = random.normal(size=(2, 3, 5)).astype(np.float32), tf.constant(1.0)
    np.testing.assert_allclose(layer(x, gate=on), layer(x), rtol=1e-4, atol=1e-5)
    layer.lora_B.assign(random.normal(size=(2, 7)))
    residual = layer.kernel.numpy() - 1.5 * (layer.start_A.numpy() @ layer.start_B.numpy())
    seed = tf.constant([3, 4])
    dropped = np.asarray(kernels.dropout(x, seed, rate=rate, compiled=True)) if rate else x
    wanted = x @ residual + 1.5 * dropped @ layer.lora_A.numpy() @ layer.lora_B.numpy()
    np.testing.assert_allclose(layer(x, seed=seed, gate=on), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer(x, gate=tf.constant(0.0)), layer(x))
    rows = layer(x, gate=tf.constant([[[1.0]], [[0.0]]]))
    np.testing.assert_array_equal(rows[1], layer(x)[1])


@pytest.mark.parametrize("init", INITS)
def test_it_begins_as_the_base_and_leaves_it_as_it_is(init, tmp_path):
    plain, inputs = small_model(GPT2LanguageModel, SMALL), batch(SMALL)
    plain.save_pretrained(tmp_path / "base")
    lora = {**COMMON, "init": init}
    model = GPT2LanguageModel.from_pretrained(tmp_path / "base", lora=lora)
    wanted = outputs(plain, inputs)
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(outputs_of_base(model, inputs), wanted)
    model.save_adapter(tmp_path / "adapter")
    plain.load_adapter(tmp_path / "adapter", name="saved")  # refused on another base
    np.testing.assert_allclose(outputs(plain, inputs), wanted, rtol=1e-3, atol=1e-4)
    plain.add_adapter("named", lora)
    np.testing.assert_allclose(outputs(plain, inputs), wanted, rtol=1e-3, atol=1e-4)
    assert all(np.any(layer.lora_B) for layer in model.lora_layers().values())


@pytest.mark.parametrize("more", [{}, {"use_rslora": True, "rank_pattern": {"mlp.c_proj": 2}}])
@pytest.mark.parametrize("init", INITS)
def test_its_file_is_plain_lora_on_the_plain_base(init, more, tmp_path):
    model, inputs = tuned(init, **more), batch(SMALL)
    wanted, base = outputs(model, inputs), outputs_of_base(model, inputs)
    assert np.abs(wanted - base).max() > 0.1
    model.save_adapter(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "base")
    fields = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (fields["r"], fields["init_lora_weights"]) == (6, True)
    arrays = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {array.shape[0] for name, array in arrays.items() if "c_attn.lora_A" in name} == {6}
    lora, _ = read_adapter_config(tmp_path / "adapter")
    again = GPT2LanguageModel.from_pretrained(tmp_path / "base", lora=lora)
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_allclose(outputs(again, inputs), wanted, rtol=1e-3, atol=1e-4)
    named = small_model(GPT2LanguageModel, SMALL)
    named.load_adapter(tmp_path / "adapter", name="x")
    np.testing.assert_allclose(outputs(named, inputs), wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="the adapter's init is 'default', the model's"):
        model.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("init", INITS)
def test_merging_others_beside_it_and_keras_files(init, tmp_path):
    model, inputs = tuned(init), batch(SMALL)
    wanted = outputs(model, inputs)
    model.save(tmp_path / "model.keras")
    whole = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(whole, inputs), wanted)
    assert model.merge() < 1e-4
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)
    model.unmerge()
    np.testing.assert_array_equal(outputs(model, inputs), wanted)
    model.add_adapter("named", {**COMMON, "init": init})
    model.set_adapter("default")
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)
    rows = model(inputs, gate=model.rows_gate(["default", None, "default"]))
    np.testing.assert_allclose(rows[0], wanted[0], rtol=1e-3, atol=1e-4)
    model.save(tmp_path / "both.keras")
    both = keras.models.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(outputs(both, inputs), outputs(model, inputs))


def test_training_changes_the_factors_and_not_what_they_began_as():
    model, ids = begun("pissa"), batch(SMALL)
    model.freeze_all_but_lora()
    assert len(model.trainable_weights) == len(model.lora_weights()) == 4 * 2
    before = {at: weight.numpy() for at, weight in model.start_weights().items()}
    labels = np.roll(ids["token_ids"], -1, axis=1)
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy(), jit_compile=False)
    model.fit(ids, labels, verbose=0)
    for at, weight in model.start_weights().items():
        np.testing.assert_array_equal(weight, before[at])
        own = at.replace("start_", "") + ".weight"
        assert not np.array_equal(model.lora_weights()[own], before[at])


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"init": "corda"}, "LoRA init must be one of default, pissa, olora, not 'corda'"),
        ({"init": "pissa", "use_dora": True}, "LoRA init 'pissa' does not go with use_dora"),
        ({"init": "olora", "rank": 33}, "LoRA rank 33 with init 'olora' is above the size"),
    ],
)
def test_what_does_not_go_with_it_is_one_clear_line(lora, message):
    with pytest.raises(UserError) as caught:
        GPT2LanguageModel(SMALL, lora={**COMMON, **lora})
    assert message in str(caught.value)

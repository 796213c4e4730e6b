"""DoRA: each output's weights have a length of their own, wherever an adapter is computed."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model

from gpt2_tuning.config import LoRAUpdate
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.adapters import adapter_variables, read_adapter_config
from gpt2_tuning.models import kernels
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.lora import LoRADense
from gpt2_tuning.training.objectives import CrossEntropy
from gpt2_tuning.training.optimizer import make_optimizer

pytestmark = pytest.mark.usefixtures("all_bits")

DORA: dict[str, Any] = {
    "rank": 4, "alpha": 6, "targets": ["attn.c_attn", "mlp.c_proj"], "use_dora": True
}  # fmt: skip


def tuned(lora=None, seed=1):
    """A model whose lengths are none of the base's."""
    model = small_model(GPT2LanguageModel, SMALL, lora or DORA)
    random = np.random.default_rng(seed)
    for variable in adapter_variables(model).values():
        variable.assign(variable + random.normal(0, 0.2, variable.shape))
    return model


def written_out(x, layer, dropped=None):
    """x m V / ||V|| + b as PEFT computes it, float64, with dropout on all but b and x W."""
    dropped = x if dropped is None else dropped
    kernel, bias, a, b, m = (
        np.asarray(weight, np.float64)
        for weight in (layer.kernel, layer.bias, layer.lora_A, layer.lora_B, layer.lora_magnitude)
    )
    update = layer.update.scaling * (a @ b)
    scale = m / np.linalg.norm(kernel + update, axis=0)
    return x @ kernel + bias + (scale - 1) * (dropped @ kernel) + scale * (dropped @ update)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_layer_computes_what_the_paper_and_peft_say(rate):
    layer = LoRADense(7, update=LoRAUpdate(2, 1.5, rate, dora=True), place="x")
    layer.build((None, None, 5))
    random = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    x = random.normal(size=(2, 3, 5)).astype(np.float32)
    seed = tf.constant([3, 4])
    on, off = tf.constant(1.0), tf.constant(0.0)
    np.testing.assert_allclose(layer(x, gate=on), written_out(x, layer), rtol=1e-4, atol=1e-5)
    plain = layer(x)
    np.testing.assert_array_equal(layer(x, gate=off), plain)
    dropped = np.asarray(kernels.dropout(x, seed, rate=rate, compiled=True)) if rate else x
    wanted = written_out(x, layer, dropped)
    np.testing.assert_allclose(layer(x, seed=seed, gate=on), wanted, rtol=1e-4, atol=1e-5)
    half = plain + 0.5 * (layer(x, gate=on) - plain)
    np.testing.assert_allclose(layer(x, gate=tf.constant(0.5)), half, rtol=1e-4, atol=1e-5)
    rows = layer(x, gate=tf.constant([[[1.0]], [[0.0]]]))
    np.testing.assert_allclose(rows[0], layer(x, gate=on)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows[1], plain[1])


def test_the_norm_is_a_constant_to_the_gradient():
    layer = LoRADense(7, update=LoRAUpdate(2, 1.5, 0.0, dora=True), place="x")
    layer.build((None, None, 5))
    random = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    x = random.normal(size=(2, 3, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, gate=tf.constant(1.0)))
    found = tape.gradient(loss, layer.lora_B.value)
    norm = np.linalg.norm(layer.kernel + layer.factors().product(), axis=0)
    upstream = np.ones((6, 7)) * (layer.lora_magnitude.numpy() / norm)
    low = x.reshape(6, 5) @ layer.lora_A.numpy()
    np.testing.assert_allclose(found, 1.5 * low.T @ upstream, rtol=1e-3)


def test_it_begins_as_the_base_whatever_base_is_loaded(tmp_path):
    plain, inputs = small_model(GPT2LanguageModel, SMALL), batch(SMALL)
    plain.save_pretrained(tmp_path / "base")
    model = GPT2LanguageModel.from_pretrained(tmp_path / "base", lora=DORA)
    wanted = outputs(plain, inputs)
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-4, atol=1e-5)
    random = GPT2LanguageModel(SMALL, lora=DORA)
    np.testing.assert_allclose(outputs(random, inputs), outputs_of_base(random, inputs), atol=1e-5)
    random.load_weights_from(tmp_path / "base")
    np.testing.assert_allclose(outputs(random, inputs), wanted, rtol=1e-4, atol=1e-5)
    plain.add_adapter("named", DORA)
    np.testing.assert_allclose(outputs(plain, inputs), wanted, rtol=1e-4, atol=1e-5)


def outputs_of_base(model, inputs):
    with model.disable_lora():
        return outputs(model, inputs)


def test_it_comes_back_whole_merges_and_unmerges(tmp_path):
    model, inputs = tuned(), batch(SMALL)
    wanted, base = outputs(model, inputs), outputs_of_base(model, inputs)
    assert np.abs(wanted - base).max() > 0.1
    model.save_adapter(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "base")
    lora, _ = read_adapter_config(tmp_path / "adapter")
    assert lora == model.lora
    again = GPT2LanguageModel.from_pretrained(tmp_path / "base", lora=lora)
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(again, inputs), wanted)
    for _ in range(2):
        assert model.merge() < 1e-4
        np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)
        model.merge_and_export(tmp_path / "merged")
        model.unmerge()
        np.testing.assert_array_equal(outputs(model, inputs), wanted)
    merged = GPT2LanguageModel.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(outputs(merged, inputs), wanted, rtol=1e-3, atol=1e-4)
    model.save(tmp_path / "model.keras")
    whole = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(whole, inputs), wanted)
    without = {**DORA, "use_dora": False}
    with pytest.raises(UserError, match="the adapter's use_dora is True, the model's False"):
        small_model(GPT2LanguageModel, SMALL, without).load_adapter(tmp_path / "adapter")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two adapters with DoRA and one without, on one base."""
    place = tmp_path_factory.mktemp("saved")
    plain = {"rank": 2, "targets": ["attn.c_attn", "attn.c_proj"]}
    for name, lora in (("one", DORA), ("two", {**DORA, "rank": 3}), ("plain", plain)):
        tuned(lora, seed=len(name)).save_adapter(place / name)
    return place


def test_rows_of_one_batch_and_mixtures_are_sums_of_what_each_adds(saved):
    model, inputs = small_model(GPT2LanguageModel, SMALL), batch(SMALL, rows=5)
    for name in ("one", "two", "plain"):
        model.load_adapter(saved / name, name=name)
    rows = ["one", None, "two", "plain", {"one": 0.5, "plain": 0.5}]
    together = np.asarray(model(inputs, gate=model.rows_gate(rows)))
    for number, choice in enumerate(rows):
        model.set_adapter(choice)
        np.testing.assert_allclose(together[number], outputs(model, inputs)[number], atol=1e-4)
    for name in ("one", "plain"):
        model.set_adapter(name)
        lora, _ = read_adapter_config(saved / name)
        alone = small_model(GPT2LanguageModel, SMALL, lora)
        alone.load_adapter(saved / name)
        wanted = outputs(alone, inputs)
        np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)
    model.set_adapter({"one": 0.7, "two": 0.3})
    mixture = outputs(model, inputs)
    assert model.merge() < 1e-4
    np.testing.assert_allclose(outputs(model, inputs), mixture, rtol=1e-3, atol=1e-4)


def test_one_that_is_not_finite_reaches_its_own_rows_alone(saved):
    model, inputs = small_model(GPT2LanguageModel, SMALL), batch(SMALL)
    for name in ("one", "two"):
        model.load_adapter(saved / name, name=name)
    gate = model.rows_gate(["one", None, "two"])
    before = np.asarray(model(inputs, gate=gate))
    for _, _, factors in model.gate.added["two"].layers.values():
        factors.magnitude.assign(np.full(factors.magnitude.shape, np.nan))
    after = np.asarray(model(inputs, gate=gate))
    np.testing.assert_allclose(after[:2], before[:2], atol=1e-6)
    assert np.isnan(after[2]).all()


def test_training_changes_factors_and_lengths_and_lengths_do_not_decay():
    model, ids = tuned(), batch(SMALL)
    model.freeze_all_but_lora()
    before = {at: weight.numpy() for at, weight in adapter_variables(model).items()}
    assert len(model.trainable_weights) == len(before) == 4 * 3
    labels = np.roll(ids["token_ids"], -1, axis=1)
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy(), jit_compile=False)
    model.fit(ids, labels, verbose=0)
    for at, weight in adapter_variables(model).items():
        assert not np.array_equal(weight, before[at]), at
    optimizer = make_optimizer("adamw", 1e-3, 0.1, 10, 0.0)
    optimizer.build(model.trainable_weights)
    decays = {
        weight.name for weight in model.trainable_weights if optimizer._use_weight_decay(weight)
    }
    assert decays == {"lora_A", "lora_B"}

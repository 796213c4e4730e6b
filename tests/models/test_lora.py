"""LoRA on the models: what it adds, what it freezes, how it switches and merges."""

import dataclasses
import json

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from lora_models import BOTH, SMALL, batch, outputs, small_model, unchanged, values

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.mixture import Factors

pytestmark = pytest.mark.usefixtures("all_bits")

LORA = {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]}
ONE_LAYER = dataclasses.replace(SMALL, n_layer=1)
ON = tf.constant(1.0)
ALL_FOUR = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def compile_and_fit(model, inputs, **arguments):
    """Tunes for two steps; a model that is compiled keeps its optimizer."""
    if not model.compiled:
        model.compile(keras.optimizers.AdamW(0.05), "mse", jit_compile=False, **arguments)
    target = np.random.default_rng(1).normal(size=outputs(model, inputs).shape)
    model.fit(inputs, target, epochs=2, verbose=0)


def differences(model, before):
    return [now - old for now, old in zip(values(model), before, strict=True)]


def lora_ids(model):
    layers = model.lora_layers().values()
    return {id(variable) for layer in layers for variable in (layer.lora_A, layer.lora_B)}


# --- what LoRA adds --------------------------------------------------------------------------


def test_lora_leaves_the_names_and_paths_of_base_weights_unchanged():
    plain, adapted = GPT2Model(SMALL, name="m"), GPT2Model(SMALL, LORA, name="m")
    plain.build()
    adapted.build()
    base = [variable.path for variable in adapted.weights if "lora_" not in variable.path]
    assert base == [variable.path for variable in plain.weights]
    assert len(adapted.weights) == len(base) + 2 * 2 * SMALL.n_layer


def test_a_new_adapter_changes_nothing_because_b_is_zero():
    model = GPT2Model(SMALL, LORA)
    inputs = batch(SMALL)
    with_lora = outputs(model, inputs)
    with model.disable_lora():
        np.testing.assert_array_equal(with_lora, outputs(model, inputs))
    for layer in model.lora_layers().values():
        assert np.all(layer.lora_B.numpy() == 0)
        assert np.std(layer.lora_A.numpy()) > 0


@pytest.mark.parametrize("use_rslora", [False, True])
def test_update_is_scaling_times_x_a_b(use_rslora):
    lora = LoRAConfig(
        rank=4,
        alpha=8,
        use_rslora=use_rslora,
        targets=("attn.c_attn", "mlp.c_fc"),
        rank_pattern={"mlp.c_fc": 2},
        alpha_pattern={"mlp.c_fc": 3},
    )
    model = small_model(GPT2Model, SMALL, lora)
    scalings = {"attn.c_attn": 8 / (2 if use_rslora else 4)}
    scalings["mlp.c_fc"] = 3 / (2**0.5 if use_rslora else 2)
    x = np.random.default_rng(2).normal(size=(2, 3, SMALL.n_embd)).astype("float32")
    for name, layer in model.lora_layers().items():
        a, b = layer.lora_A.numpy(), layer.lora_B.numpy()
        expected = scalings[name.split(".", 2)[2]] * (x @ a @ b)
        expected += x @ layer.kernel.numpy() + layer.bias.numpy()
        np.testing.assert_allclose(np.array(layer(x, gate=ON)), expected, rtol=1e-4, atol=1e-4)


def test_lora_dropout_acts_on_the_update_alone_and_only_in_training():
    keras.utils.set_random_seed(3)
    model = small_model(GPT2Model, SMALL, {**LORA, "dropout": 0.5})
    layer = model.lora_layers()["h.0.attn.c_attn"]
    x = np.ones((1, 1, SMALL.n_embd), "float32")
    seed, off = tf.constant([1, 2]), tf.constant(0.0)
    quiet = np.array(layer(x, gate=ON))
    assert not np.array_equal(np.array(layer(x, seed=seed, gate=ON)), quiet)
    np.testing.assert_array_equal(np.array(layer(x, gate=ON)), quiet)
    base = np.array(layer(x))
    np.testing.assert_array_equal(np.array(layer(x, seed=seed, gate=off)), base)


# --- what is trained -------------------------------------------------------------------------


def test_124m_with_rank_8_trains_442368_of_its_parameters(monkeypatch):
    zeros = lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)  # noqa: E731
    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", zeros)  # random ones take long
    model = GPT2Model(GPT2Config.from_size("124M"), {"rank": 8, "alpha": 16})
    model.freeze_all_but_lora()
    counts = model.count_parameters()
    assert counts == {"base": (0, 124_439_808), "LoRA": (442_368, 0)}


def test_print_trainable_shows_parts_and_totals(capsys):
    model = small_model(GPT2Classifier, SMALL, {"rank": 4, "targets": ALL_FOUR})
    width = SMALL.n_embd
    # Per block: c_attn 32 x 96, c_proj 32 x 32, c_fc 32 x 128, c_proj 128 x 32.
    trained = 2 * 4 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))
    base = (97 + 32) * width + 2 * (12 * width**2 + 13 * width) + 2 * width
    assert model.count_parameters()["base"] == (base, 0)
    model.freeze_all_but_lora()
    assert model.count_parameters() == {
        "base": (0, base),
        "LoRA": (trained, 0),
        "head": (3 * width, 0),
    }
    model.print_trainable()
    printed = capsys.readouterr().out
    for number in (f"{base:,}", f"{trained:,}", f"{trained + 3 * width:,}", "LoRA", "head"):
        assert number in printed


@pytest.mark.parametrize("model_class", BOTH)
def test_fit_leaves_frozen_bits_alone_and_changes_every_adapter_weight(model_class):
    model = small_model(model_class, ONE_LAYER, {"rank": 2, "targets": ALL_FOUR})
    model.freeze_all_but_lora()
    before = values(model)
    compile_and_fit(model, batch(SMALL), run_eagerly=True)
    kept = {id(variable) for variable in model.head_weights().values()} | lora_ids(model)
    for variable, old in zip(model.weights, before, strict=True):
        if id(variable) in kept:
            assert np.all(variable.numpy() != old), variable.path
        else:
            assert np.array_equal(variable.numpy(), old), variable.path


def test_freezing_after_a_first_fit_takes_effect_in_the_next():
    model = small_model(GPT2Classifier, ONE_LAYER, LORA)
    inputs = batch(SMALL)
    start = values(model)
    compile_and_fit(model, inputs)
    assert all(map(np.any, differences(model, start)))
    model.freeze_all_but_lora()
    before = values(model)
    compile_and_fit(model, inputs)  # with the optimizer that was built for every variable
    kept = {id(variable) for variable in model.head_weights().values()} | lora_ids(model)
    for variable, old in zip(model.weights, before, strict=True):
        same = np.array_equal(variable.numpy(), old)
        assert same == (id(variable) not in kept), variable.path


# --- the switch ------------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", BOTH)
def test_disabled_lora_is_exactly_the_base_in_call_predict_and_traced(model_class):
    model = small_model(model_class, ONE_LAYER, LORA)
    plain = small_model(model_class, ONE_LAYER)  # the same base
    inputs = batch(ONE_LAYER)
    model.compile(jit_compile=False)
    plain.compile(jit_compile=False)
    predicted = model.predict(inputs, verbose=0)  # traced while LoRA is on
    assert np.abs(predicted - plain.predict(inputs, verbose=0)).max() > 0.1
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(model, inputs), outputs(plain, inputs))
        np.testing.assert_array_equal(
            model.predict(inputs, verbose=0), plain.predict(inputs, verbose=0)
        )
    np.testing.assert_array_equal(model.predict(inputs, verbose=0), predicted)


def test_disable_lora_nests_and_restores_what_it_found_after_an_error():
    model = small_model(GPT2Model, SMALL, LORA)
    inputs = batch(SMALL)
    on = outputs(model, inputs)
    with model.disable_lora():
        off = outputs(model, inputs)
        with pytest.raises(RuntimeError), model.disable_lora():
            raise RuntimeError
        np.testing.assert_array_equal(outputs(model, inputs), off)
    np.testing.assert_array_equal(outputs(model, inputs), on)
    assert np.abs(on - off).max() > 0.1


# --- merging ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", BOTH)
def test_merged_equals_unmerged_and_computes_through_the_kernel(model_class):
    model = small_model(model_class, ONE_LAYER, {"rank": 4, "targets": ALL_FOUR})
    inputs = batch(ONE_LAYER)
    model.compile(jit_compile=False)  # XLA takes long to compile
    expected = model.predict(inputs, verbose=0)
    difference = model.merge()
    assert isinstance(difference, float)
    assert 0 < difference < 1e-4
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, atol=1e-4)
    for layer in model.lora_layers().values():  # the updates no longer take part
        layer.lora_B.assign(np.zeros(layer.lora_B.shape))
    np.testing.assert_allclose(outputs(model, inputs), expected, atol=1e-4)


def test_merging_twice_equals_once_and_unmerging_restores_every_bit():
    model = small_model(GPT2Classifier, SMALL, LORA)
    inputs = batch(SMALL)
    before, expected = values(model), outputs(model, inputs)
    difference = model.merge()
    once = values(model)
    assert not unchanged(model, before)
    assert model.merge() == difference
    assert unchanged(model, once)
    model.unmerge()
    assert unchanged(model, before)
    np.testing.assert_array_equal(outputs(model, inputs), expected)
    model.unmerge()
    assert unchanged(model, before)
    assert model.gate.on


def test_a_merge_that_changes_the_outputs_is_refused_and_undone(monkeypatch):
    model = small_model(GPT2Model, SMALL, LORA)
    before, expected = values(model), outputs(model, batch(SMALL))
    exact = Factors.delta
    rounded = lambda *of: exact(*of).astype(ml_dtypes.bfloat16)  # noqa: E731
    monkeypatch.setattr(Factors, "delta", rounded)
    with pytest.raises(UserError, match="merging changes the outputs by") as caught:
        model.merge()
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)
    np.testing.assert_array_equal(outputs(model, batch(SMALL)), expected)
    monkeypatch.undo()
    layer = model.lora_layers()["h.0.attn.c_attn"]
    layer.lora_B.assign(np.full(layer.lora_B.shape, np.nan))
    with pytest.raises(UserError, match="by nan"):
        model.merge()


def test_what_a_merged_model_cannot_do_is_refused(tmp_path):
    model = small_model(GPT2Model, SMALL, LORA)
    model.save_adapter(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "base")
    with model.disable_lora(), pytest.raises(UserError, match=r"inside disable_lora\(\)"):
        model.merge()
    model.merge()
    merged = values(model)
    with pytest.raises(UserError, match=r"call unmerge\(\) first"), model.disable_lora():
        pass
    with pytest.raises(UserError, match=r"call unmerge\(\) first"):
        model.load_adapter(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"call unmerge\(\) first"):
        model.load_weights_from(tmp_path / "base")
    with pytest.raises(UserError, match=r"call unmerge\(\) first"):
        compile_and_fit(model, batch(SMALL))
    assert unchanged(model, merged)


@pytest.mark.parametrize("merged_before", [False, True])
def test_merge_and_export_writes_a_plain_gpt2_and_leaves_the_model(tmp_path, merged_before):
    model = small_model(GPT2Classifier, SMALL, LORA, label_names=["a", "b", "c"])
    inputs = batch(SMALL)
    expected = outputs(model, inputs)
    if merged_before:
        model.merge()
    before = values(model)
    model.merge_and_export(tmp_path / "plain")
    assert unchanged(model, before)
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "plain/config.json").read_text())["id2label"]["1"] == "b"
    exported = GPT2Classifier.from_pretrained(tmp_path / "plain", num_classes=3)
    np.testing.assert_allclose(outputs(exported, inputs), expected, atol=1e-4)
    model.save_pretrained(tmp_path / "base")  # the base, merged or not
    base = GPT2Classifier.from_pretrained(tmp_path / "base", num_classes=3)
    model.unmerge()
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(base, inputs), outputs(model, inputs))
    (tmp_path / "plain/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        model.merge_and_export(tmp_path / "plain")


def test_merging_in_bfloat16_compute_is_refused_but_the_export_is_float32(tmp_path):
    exact = small_model(GPT2Model, SMALL, LORA)
    model = small_model(GPT2Model, SMALL, LORA, dtype="mixed_bfloat16")
    with pytest.raises(UserError, match="computed in bfloat16"):
        model.merge()
    model.merge_and_export(tmp_path / "plain")
    exported = GPT2Model.from_pretrained(tmp_path / "plain")
    inputs = batch(SMALL)
    np.testing.assert_allclose(outputs(exported, inputs), outputs(exact, inputs), atol=1e-4)


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1, not 0"),
        ({"rank": -1}, "rank must be a whole number of at least 1, not -1"),
        ({"rank": 2.5}, "rank must be a whole number"),
        ({"rank": 33, "init": "pissa"}, "above the size of attn.c_attn, 32 x 96, which has not so"),
        ({"targets": "attn.c_attn"}, "LoRA targets must be a list of names, such as"),
        ({"targets": [1]}, 'must be a list of names, such as ["attn.c_attn"], not [1]'),
        ({"targets": None}, "LoRA targets must be a list of names, such as"),
        ({"layers": 1}, "LoRA layers must be a list of blocks, such as [0, 1], not 1"),
        ({"exclude": "3.attn.c_attn"}, "LoRA exclude must be a list of layers, such as"),
        ({"modules_to_save": "wte"}, "LoRA modules_to_save must be a list of names, such as"),
        ({"rank_pattern": [4]}, "LoRA rank_pattern must be a dict, such as"),
        ({"alpha_pattern": {1: 2}}, "LoRA alpha_pattern must be a dict, such as"),
        ({"use_rslora": "x"}, "LoRA use_rslora must be true or false, not 'x'"),
        ({"use_dora": 1}, "LoRA use_dora must be true or false, not 1"),
        ({1: 2, "r": 3}, "unknown LoRA field 1: choose among rank, alpha"),
        (8, "lora must be a LoRAConfig, a dict of its fields such as"),
        ("default", "lora must be a LoRAConfig, a dict of its fields such as"),
        ({"targets": ["proj"]}, "unknown LoRA target 'proj': choose among attn.c_attn, "),
        ({"targets": ["c_proj"]}, "gpt2 has no LoRA target 'c_proj': choose among attn.c_attn, "),
        ({"targets": []}, "LoRA needs a target"),
        ({"alpha": 0}, "alpha must be a number above 0, not 0"),
        ({"alpha": "16"}, "alpha must be a number above 0, not '16'"),
        ({"alpha": float("nan")}, "alpha must be a number above 0"),
        ({"dropout": 1}, "dropout must be in"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"rank_pattern": {"attn.c_attn": 0}}, "rank must be a whole number"),
        ({"alpha_pattern": {"attn.c_attn": 0}}, "alpha must be a number above 0"),
        ({"rank_pattern": {"mlp.c_fc": 2}}, "names mlp.c_fc, which is not among the targets"),
        ({"r": 8}, "unknown LoRA field 'r'"),
    ],
)
def test_bad_lora_settings_are_one_clear_line(lora, message):
    with pytest.raises(UserError) as caught:
        GPT2Model(SMALL, lora).build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_class", BOTH)
def test_lora_methods_of_a_model_without_lora_say_what_to_pass(model_class, tmp_path):
    model = small_model(model_class, SMALL)
    with pytest.raises(UserError, match="pass lora="), model.disable_lora():
        pass
    for call in (
        model.freeze_all_but_lora,
        model.merge,
        model.unmerge,
        lambda: model.merge_and_export(tmp_path / "x"),
        lambda: model.save_adapter(tmp_path / "x"),
        lambda: model.load_adapter(tmp_path / "x"),
    ):
        with pytest.raises(UserError, match="needs a model with LoRA: pass lora="):
            call()
    assert all(variable.trainable for variable in model.weights)
    assert not (tmp_path / "x").exists()


# --- frozen weights in the type of the computation -------------------------------------------


@pytest.mark.parametrize("model_class", BOTH)
def test_only_the_frozen_weights_are_held_rounded(model_class):
    model = small_model(model_class, SMALL, LORA, dtype="bfloat16")
    model.freeze_all_but_lora()
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    kernels = [weight for weight in model.non_trainable_weights if len(weight.shape) == 2]
    assert {weight.dtype for weight in kernels} == {"bfloat16"}


def test_an_adapter_of_a_rounded_base_belongs_to_the_exact_one(tmp_path):
    """Trained on a base held in bfloat16, used on the same base in float32."""
    exact = small_model(GPT2Model, SMALL, LORA)
    exact.save_pretrained(tmp_path / "base")
    rounded = GPT2Model.from_pretrained(tmp_path / "base", lora=LORA, dtype="bfloat16")
    for layer in rounded.lora_layers().values():
        layer.lora_B.assign(np.ones(layer.lora_B.shape))
    rounded.save_adapter(tmp_path / "adapter")
    exact.load_adapter(tmp_path / "adapter")
    for name, layer in exact.lora_layers().items():
        np.testing.assert_array_equal(layer.lora_B, rounded.lora_layers()[name].lora_B)
    other = small_model(GPT2Model, SMALL, LORA, seed=1)
    with pytest.raises(UserError, match="has other weights"):
        other.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("what", ["merge", "merge_and_export"])
def test_a_rounded_base_is_not_merged(what, tmp_path):
    model = small_model(GPT2Model, SMALL, LORA, dtype="bfloat16")
    with pytest.raises(UserError, match="held in bfloat16"):
        getattr(model, what)(*([tmp_path / "merged"] if what == "merge_and_export" else []))
    assert not (tmp_path / "merged").exists()


def test_a_rounded_base_computes_nearly_as_the_exact_one(tmp_path):
    exact = small_model(GPT2Model, SMALL, LORA)
    rounded = small_model(GPT2Model, SMALL, LORA, dtype="bfloat16")
    inputs = batch(SMALL)
    real = inputs["attention_mask"].astype(bool)
    wanted, found = outputs(exact, inputs)[real], outputs(rounded, inputs).astype("float32")[real]
    assert np.abs(found - wanted).mean() < 0.03 * np.abs(wanted).mean()

"""Weights are floating-point and finite, or nothing of them is taken."""

import ml_dtypes
import numpy as np
import pytest
from lora_models import SMALL, outputs, small_model, unchanged, values
from safetensors.numpy import load_file, save_file
from samples import inputs_of, randomize

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model

LORA = {"rank": 2, "alpha": 4}
BAD = [np.nan, np.inf, -np.inf]


@pytest.fixture
def saved(tmp_path):
    randomize(GPT2Classifier(SMALL, 3).built_now()).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def edit(path, name, change):
    arrays = load_file(path)
    arrays[name] = change(arrays[name])
    save_file(arrays, path, metadata={"format": "pt"})


def with_one(value):
    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array

    return change


def refused(model, load, message):
    before = values(model)
    with pytest.raises(UserError) as caught:
        load()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.ln_f.bias", "score.weight"]
)
def test_one_number_that_is_not_finite_refuses_a_model(saved, name, bad):
    edit(saved / "model.safetensors", name, with_one(bad))
    model = small_model(GPT2Classifier, SMALL, seed=9)
    where = f"{saved / 'model.safetensors'}: {name.removeprefix('transformer.')} holds {bad}"
    refused(model, lambda: model.load_weights_from(saved), where)


@pytest.mark.parametrize("name", ["wte.weight", "transformer.score.weight"])
def test_two_weights_of_one_name_are_refused(saved, name):
    """With and without the prefix: nothing tells which of them is meant."""
    path = saved / "model.safetensors"
    arrays = load_file(path)
    twin = f"transformer.{name}" if name == "wte.weight" else "score.weight"
    save_file({**arrays, name: np.zeros_like(arrays[twin])}, path, metadata={"format": "pt"})
    model = small_model(GPT2Classifier, SMALL, seed=9)
    refused(model, lambda: model.load_weights_from(saved), "another weight of the name")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float8_e4m3fn"])
@pytest.mark.parametrize("name", ["transformer.h.0.mlp.c_fc.weight", "score.weight"])
def test_a_weight_that_is_no_plain_floating_point_is_refused(saved, name, dtype):
    kind = np.dtype(dtype if dtype != "float8_e4m3fn" else ml_dtypes.float8_e4m3fn)
    edit(saved / "model.safetensors", name, lambda array: array.astype(kind))
    model = small_model(GPT2Classifier, SMALL, seed=9)
    message = f"{name.removeprefix('transformer.')} is of type "
    refused(model, lambda: model.load_weights_from(saved), message)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_load_as_the_numbers_they_are(saved, dtype):
    arrays = {k: v.astype(dtype) for k, v in load_file(saved / "model.safetensors").items()}
    save_file(arrays, saved / "model.safetensors")
    model = GPT2Classifier.from_pretrained(saved)
    found = model.transformer.blocks[1].attention.qkv.kernel.numpy()
    expected = arrays["transformer.h.1.attn.c_attn.weight"].astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_numbers_too_large_for_the_models_type_are_refused(saved):
    name = "transformer.h.0.mlp.c_fc.weight"
    edit(saved / "model.safetensors", name, with_one(1e5))
    assert np.isfinite(outputs(GPT2Classifier.from_pretrained(saved), inputs_of([[1]]))).all()
    with pytest.raises(UserError, match=r"c_fc.weight holds 100000.0 where float16 needs a finite"):
        GPT2Classifier.from_pretrained(saved, dtype="float16")
    edit(saved / "model.safetensors", name, lambda a: with_one(1e300)(a.astype(np.float64)))
    with pytest.raises(UserError, match="holds 1e\\+300 where float32 needs a finite number"):
        GPT2Classifier.from_pretrained(saved)


def test_a_mask_buffer_of_any_type_is_passed_over(saved):
    arrays = load_file(saved / "model.safetensors")
    arrays["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 32, 32), np.uint8))
    arrays["transformer.h.0.attn.masked_bias"] = np.array(-np.inf, np.float32)
    save_file(arrays, saved / "model.safetensors")
    assert GPT2Classifier.from_pretrained(saved).num_classes == 3


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("name", ["score", "transformer.h.1.attn.c_attn.lora_B"])
def test_one_number_that_is_not_finite_refuses_an_adapter(tmp_path, name, bad):
    small_model(GPT2Classifier, SMALL, LORA).save_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    edit(path, f"base_model.model.{name}.weight", with_one(bad))
    model = small_model(GPT2Classifier, SMALL, LORA)
    short = name.removeprefix("transformer.")
    message = f"{path}: {short}.weight holds {bad} where"
    refused(model, lambda: model.load_adapter(tmp_path / "adapter"), message)


def test_a_live_model_with_nan_is_refused(transformers):
    shape = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 97}
    theirs = transformers.TFGPT2Model(transformers.GPT2Config(**shape))
    theirs.build()
    kernel = theirs.transformer.h[1].mlp.c_fc.weight
    kernel.assign(np.full(kernel.shape, np.nan))
    model = small_model(GPT2Model, SMALL)
    message = "the TFGPT2Model given: h.1.mlp.c_fc.weight holds nan"
    refused(model, lambda: model.load_tf_gpt2(theirs), message)

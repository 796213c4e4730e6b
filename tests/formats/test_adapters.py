"""Adapters in PEFT's format: what is written, what is refused, and that refusals change nothing."""

import json
import os
import warnings
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
from hostile import within
from lora_models import BOTH, SMALL, batch, outputs, small_model, unchanged, values
from safetensors.numpy import load_file, save_file

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.formats.adapters import base_fingerprint, read_adapter_config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model

LORA: dict[str, Any] = {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]}
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def classifier():
    """A classifier with an adapter; tests leave it as it is."""
    return small_model(GPT2Classifier, SMALL, LORA, label_names=["x", "y", "z"])


@pytest.fixture(scope="module")
def victim():
    """A classifier with the same base and another adapter; tests leave it as it is."""
    return other_adapter(GPT2Classifier)


@pytest.fixture
def adapter(classifier, tmp_path):
    """The classifier's adapter on disk."""
    classifier.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def other_adapter(model_class, lora=LORA, **arguments):
    """A model with the same base as the classifier (by seed) and other adapter weights."""
    model = small_model(model_class, SMALL, lora, **arguments)
    random = np.random.default_rng(7)
    for layer in model.lora_layers().values():
        layer.lora_B.assign(random.normal(size=layer.lora_B.shape))
    for variable in model.head_weights().values():
        variable.assign(random.normal(size=variable.shape))
    return model


def edit_config(directory, **changes):
    fields = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**fields, **changes}))


def edit_weights(directory, edit):
    """Rewrites the weights without metadata, as PEFT would."""
    save_file(edit(load_file(directory / WEIGHTS)), directory / WEIGHTS, metadata={"format": "pt"})


# --- what is written -------------------------------------------------------------------------


def test_the_directory_is_pefts(adapter, classifier):
    assert sorted(path.name for path in adapter.iterdir()) == [CONFIG, WEIGHTS]
    fields = json.loads((adapter / CONFIG).read_text())
    assert fields == {
        "alpha_pattern": {},
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": True,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "modules_to_save": ["score"],
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {},
        "target_modules": ["attn.c_attn", "mlp.c_proj"],
        "task_type": "SEQ_CLS",
        "use_rslora": False,
    }
    arrays = load_file(adapter / WEIGHTS)
    first = "base_model.model.transformer.h.0.attn.c_attn.lora_"
    assert {key: value.shape for key, value in arrays.items() if "h.1" not in key} == {
        f"{first}A.weight": (4, 32),
        f"{first}B.weight": (96, 4),
        "base_model.model.transformer.h.0.mlp.c_proj.lora_A.weight": (4, 128),
        "base_model.model.transformer.h.0.mlp.c_proj.lora_B.weight": (32, 4),
        "base_model.model.score.weight": (3, 32),
    }
    layer = classifier.lora_layers()["h.0.attn.c_attn"]
    np.testing.assert_array_equal(arrays[f"{first}A.weight"], layer.lora_A.numpy().T)
    np.testing.assert_array_equal(arrays[f"{first}B.weight"], layer.lora_B.numpy().T)


def test_a_bare_model_is_written_without_prefix_and_writing_is_deterministic(tmp_path):
    model = small_model(GPT2Model, SMALL, LORA)
    model.save_adapter(tmp_path / "one")
    model.save_adapter(tmp_path / "two")
    model.save_adapter(tmp_path / "two")  # an adapter may be replaced
    fields = json.loads((tmp_path / "one" / CONFIG).read_text())
    assert fields["task_type"] == "FEATURE_EXTRACTION"
    assert fields["modules_to_save"] is None
    assert "base_model.model.h.0.attn.c_attn.lora_A.weight" in load_file(tmp_path / "one" / WEIGHTS)
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_saving_never_removes_other_files(adapter, classifier):
    (adapter / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds README\.md"):
        classifier.save_adapter(adapter)
    with pytest.raises(UserError, match="is a file"):
        classifier.save_adapter(adapter / "README.md")
    assert len(list(adapter.iterdir())) == 3


def test_saving_a_merged_model_writes_the_same_adapter(adapter, classifier, tmp_path):
    classifier.merge()
    classifier.save_adapter(tmp_path / "merged")
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "merged" / name).read_bytes() == (adapter / name).read_bytes()
    classifier.unmerge()


# --- there and back --------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize(
    "lora",
    [
        {"targets": ["attn.c_attn"]},
        {"targets": ["attn.c_proj"]},
        {"targets": ["mlp.c_fc"], "use_rslora": True},
        {"targets": ["mlp.c_proj"], "dropout": 0.25},
        {
            "rank": 3,
            "alpha": 5.5,
            "targets": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
            "rank_pattern": {"attn.c_proj": 2, "mlp.c_proj": 1},
            "alpha_pattern": {"mlp.c_fc": 7},
        },
    ],
)
def test_an_adapter_describes_the_model_it_needs_and_comes_back_whole(model_class, lora, tmp_path):
    model = small_model(model_class, SMALL, lora)
    model.save_adapter(tmp_path / "adapter")
    config, extra = read_adapter_config(tmp_path / "adapter")
    assert config == LoRAConfig.of(lora)
    assert extra.num_classes == (3 if model_class is GPT2Classifier else None)
    assert extra.base_sha256 == base_fingerprint(model)
    again = other_adapter(model_class, config)
    inputs = batch(SMALL)
    expected = outputs(model, inputs)
    assert np.abs(outputs(again, inputs) - expected).max() > 0.1
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(again, inputs), expected)


def test_a_users_own_script(tmp_path, transformers):
    """The README's example: build, load weights, freeze, compile, fit, save, reload."""
    from gpt2_tuning.models.gpt2_classifier import GPT2Classifier

    shape = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 97}
    tf_gpt2 = transformers.TFGPT2LMHeadModel(transformers.GPT2Config(**shape))
    tf_gpt2.build()

    model = GPT2Classifier(GPT2Config(**shape), num_classes=2, lora={"rank": 4, "alpha": 8})
    model.load_tf_gpt2(tf_gpt2)
    model.freeze_all_but_lora()
    model.print_trainable()
    model.compile(
        keras.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    token_ids = np.random.default_rng(0).integers(97, size=(32, 8)).astype("int32")
    inputs = {"token_ids": token_ids, "attention_mask": np.ones_like(token_ids)}
    labels = (token_ids[:, -1] > 48).astype("int32")
    before = values(model)
    losses = model.fit(inputs, labels, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save_adapter(tmp_path / "adapter")

    lora, extra = read_adapter_config(tmp_path / "adapter")
    fresh = GPT2Classifier(GPT2Config(**shape), num_classes=extra.num_classes, lora=lora)
    fresh.load_tf_gpt2(tf_gpt2)
    fresh.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(fresh, inputs), outputs(model, inputs))
    for variable, old in zip(model.weights, before, strict=True):
        assert np.array_equal(variable.numpy(), old) == (not variable.trainable), variable.path


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_loads_as_float32(adapter, classifier, victim, dtype):
    edit_weights(adapter, lambda arrays: {k: v.astype(dtype) for k, v in arrays.items()})
    again = other_adapter(GPT2Classifier)
    again.load_adapter(adapter)
    for ours, theirs in zip(again.weights, classifier.weights, strict=True):
        assert ours.dtype == "float32"
        if ours.path.split("/")[-1] in ("lora_A", "lora_B") or "score" in ours.path:
            rounded = theirs.numpy().astype(dtype).astype("float32")
            np.testing.assert_array_equal(ours.numpy(), rounded)


def test_class_names_travel_and_must_agree(adapter, victim):
    unnamed = other_adapter(GPT2Classifier)
    unnamed.load_adapter(adapter)
    assert list(unnamed.label_names) == ["x", "y", "z"]
    swapped = other_adapter(GPT2Classifier, label_names=["y", "x", "z"])
    with pytest.raises(UserError, match="classes are x, y, z; the model's are y, x, z"):
        swapped.load_adapter(adapter)


def test_unknown_fields_are_kept_and_warned_about(adapter, victim, tmp_path):
    edit_config(adapter, from_the_future={"a": [1]}, base_model_name_or_path="some/base")
    model = other_adapter(GPT2Classifier)
    with pytest.warns(UserWarning, match="unknown fields kept: from_the_future") as caught:
        model.load_adapter(adapter)
    assert len(caught) == 1
    model.save_adapter(tmp_path / "again")
    fields = json.loads((tmp_path / "again" / CONFIG).read_text())
    assert fields["from_the_future"] == {"a": [1]}
    assert fields["base_model_name_or_path"] == "some/base"


# --- what PEFT may have written --------------------------------------------------------------


def test_an_adapter_without_fingerprint_loads_for_any_base(adapter, classifier, victim):
    edit_weights(adapter, lambda arrays: arrays)
    assert read_adapter_config(adapter)[1].base_sha256 is None
    other_base = small_model(GPT2Classifier, SMALL, LORA, seed=1)
    other_base.load_adapter(adapter)
    layer, theirs = (m.lora_layers()["h.1.mlp.c_proj"] for m in (other_base, classifier))
    np.testing.assert_array_equal(layer.lora_B.numpy(), theirs.lora_B.numpy())


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": r".*\.(attn\.c_attn|mlp\.c_proj)"},
        {"target_modules": ["c_attn", "c_proj"], "exclude_modules": ["attn.c_proj"]},
        {"target_modules": [f"transformer.h.{i}.{t}" for i in (0, 1) for t in LORA["targets"]]},
        {"r": 9, "rank_pattern": {"c_attn": 4, r"h\.\d\.mlp\.c_proj": 4}},
        {"lora_alpha": 1, "alpha_pattern": {"attn.c_attn": 8, "c_proj": 8}},
        {"modules_to_save": ["classifier", "score"], "fan_in_fan_out": False, "loftq_config": {}},
        {"init_lora_weights": "gaussian", "use_dora": False, "layers_to_transform": None},
    ],
)
def test_other_ways_in_which_peft_says_the_same(adapter, classifier, victim, fields):
    edit_config(adapter, **fields)
    again = other_adapter(GPT2Classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_adapter(adapter)
    inputs = batch(SMALL)
    np.testing.assert_array_equal(outputs(again, inputs), outputs(classifier, inputs))


# --- bad input -------------------------------------------------------------------------------


def refused(model, directory, message):
    """Loading must fail with one line that holds `message`, and change nothing."""
    before, labels = values(model), list(getattr(model, "label_names", []))
    with pytest.raises(UserError) as caught:
        model.load_adapter(directory)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)
    assert list(getattr(model, "label_names", [])) == labels


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING'; only 'LORA' works"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "the adapter's use_dora is True, the model's False"),
        ({"layers_to_transform": [0]}, "disagree about h.1.attn.c_attn"),
        ({"layers_to_transform": [-1]}, "layers_to_transform must be null or a block's number or"),
        ({"layers_to_transform": 0.5}, "layers_to_transform must be null or a block's number or"),
        ({"layers_pattern": {}}, "layers_pattern must be null or a list of names or a pattern"),
        (
            {"target_modules": ".*", "layers_to_transform": [0]},
            "layers_to_transform does not go with a pattern as target_modules",
        ),
        ({"bias": "all"}, "the adapter's bias is 'all', the model's 'none'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights='corda' changes the base"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' changes the b"),
        ({"init_lora_weights": "pissa"}, "the adapter's init is 'pissa', the model's 'default'"),
        ({"init_lora_weights": "olora"}, "kernels lie (in, out) is not supported: convert"),
        ({"r": 3}, "h.0.attn.c_attn has rank 4 in the weights, 3 by adapter_config.json"),
        ({"r": "4"}, "r must be a whole number from 1 to 2147483648, not '4'"),
        ({"lora_alpha": 0}, "alpha must be a number above 0, not 0"),
        ({"lora_alpha": "8"}, "alpha must be a number above 0, not '8'"),
        ({"lora_alpha": 16}, "scales its update by 4, the model by 2: alpha or use_rslora differs"),
        ({"use_rslora": True}, "scales its update by 4, the model by 2"),
        ({"lora_dropout": 1}, "lora_dropout must be a number in [0, 1), not 1"),
        ({"target_modules": ["attn.c_attn"]}, "disagree about h.0.mlp.c_proj"),
        ({"target_modules": ["c_attn", "c_proj"]}, "disagree about h.0.attn.c_proj"),
        ({"target_modules": "("}, "target_modules: '(' is no regular expression"),
        ({"target_modules": 7}, "target_modules must be null or a list of names"),
        ({"rank_pattern": {"h.0.attn.c_attn": 2}}, "h.0.attn.c_attn has rank 4 in the wei"),
        ({"rank_pattern": [1]}, "rank_pattern must be null or an object of"),
        (
            {"target_modules": r"(.*\.)?(?=h)attn"},
            "(?=h)attn' is not read (Invalid regular expression",
        ),
        ({"target_modules": "(.*.*)*" * 5000}, "is longer than 10,000 characters"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(adapter, victim, fields, message):
    edit_config(adapter, **fields)
    refused(victim, adapter, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_qalora": True}, "use_qalora=True is not supported"),
        ({"bias": "some"}, "bias='some' is not supported; none, all, lora_only are"),
        (
            {"modules_to_save": ["attn"]},
            "modules_to_save names 'attn': only wte, wpe, ln_f",
        ),
        ({"r": [8]}, "r must be a whole number from 1 to 2147483648, not [8]"),
    ],
)
def test_the_config_is_judged_before_the_weights(adapter, victim, fields, message):
    edit_config(adapter, **fields)
    (adapter / WEIGHTS).write_bytes(b"")
    refused(victim, adapter, message)


@pytest.mark.parametrize("field", ["target_modules", "rank_pattern"])
def test_a_pattern_that_backtracking_would_never_end_on_is_matched(adapter, victim, field):
    """Python's own matching takes more than 2^25 steps on the first name."""
    pattern = "((((a|t|.)*)*)*)*(.+)+[0-9]"
    edit_config(adapter, **{field: pattern if field == "target_modules" else {pattern: 4}})
    with within(60):
        if field == "rank_pattern":
            victim.load_adapter(adapter)
        else:
            refused(
                victim, adapter, "target_modules and the weights disagree about h.0.attn.c_attn"
            )


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00", '"LORA"'])
def test_a_damaged_config_is_refused(adapter, victim, text):
    (adapter / CONFIG).write_text(text)
    refused(victim, adapter, str(adapter / CONFIG))


def renamed(old, new):
    return lambda arrays: {key.replace(old, new): value for key, value in arrays.items()}


def without(part):
    return lambda arrays: {key: value for key, value in arrays.items() if part not in key}


def cast(part, change):
    return lambda arrays: {k: change(v) if part in k else v for k, v in arrays.items()}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("score"), "score.weight is missing"),
        (without("h.1.mlp.c_proj.lora_B"), "h.1.mlp.c_proj.lora_B.weight is missing"),
        (without("h.1.mlp.c_proj.lora_A"), "disagree about h.1.mlp.c_proj"),
        (without("h.1."), "for a base of 1 blocks; the model has 2"),
        (without("lora"), "LoRA needs a target"),
        (renamed("h.1.", "h.7."), "disagree about h.1.attn.c_attn"),
        (renamed("base_model.model.", ""), "is unexpected in an adapter of gpt2"),
        (renamed("lora_A.weight", "lora_A.default.weight"), "is unexpected in an adapter of gpt2"),
        (renamed("score", "transformer.ln_1"), "transformer.ln_1.weight' is unexpected"),
        (cast("lora_A", lambda v: v.astype("float64")), "is of type F64, not F32, F16, BF16"),
        (cast("lora_A", lambda v: v.astype("int64")), "is of type I64"),
        (cast("score", lambda v: v.ravel()), "score.weight has shape (96,), which is no matrix"),
        (cast("score", lambda v: v[:0]), "score.weight has shape (0, 32), which is no matrix"),
        (cast("score", lambda v: v[:2]), "(2, 32), not (3, 32): another number of classes"),
        (cast("c_attn.lora_B", lambda v: v[:9]), "has shape (9, 4), not (96, 4): another base siz"),
    ],
)
def test_weights_that_do_not_fit_are_refused(adapter, victim, edit, message):
    edit_weights(adapter, edit)
    refused(victim, adapter, message)


def header(length, text):
    return lambda data: length.to_bytes(8, "little") + text + data[8 + len(text) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:60],
        lambda data: data[:-1],
        lambda data: data + b"x",
        header(2**63, b""),
        header(100_000_001, b""),
        header(3, b"[1]"),
        header(8, b'{"a": 1}'),
        header(200_000, b'{"a":' * 40_000),
        header(74, b'{"base_model.model.score.weight":{"dtype":"F32","shape":[9999999999,99999]'),
        lambda data: b"\x80\x04" + data,  # a pickle by another name
    ],
)
def test_a_damaged_or_hostile_weights_file_is_refused(adapter, victim, damage):
    (adapter / WEIGHTS).write_bytes(damage((adapter / WEIGHTS).read_bytes()))
    refused(victim, adapter, f"{adapter / WEIGHTS} is not a readable safetensors file")


@pytest.mark.parametrize("recorded", ["{", "[]", '{"label_names": "xyz"}', '{"label_names": [1]}'])
def test_damaged_metadata_is_refused(adapter, victim, recorded):
    arrays = load_file(adapter / WEIGHTS)
    save_file(arrays, adapter / WEIGHTS, metadata={"gpt2_tuning": recorded})
    refused(victim, adapter, str(adapter / WEIGHTS))


def test_another_model_than_the_adapters_is_refused(adapter, victim, tmp_path):
    small = {**SMALL.to_dict(), "n_embd": 16}
    for other, message in (
        (small_model(GPT2Classifier, SMALL, LORA, seed=1), "has other weights than the mod"),
        (small_model(GPT2Classifier, GPT2Config(**small), LORA), "another base size"),
        (small_model(GPT2Model, SMALL, LORA), "score.weight is unexpected"),
        (
            small_model(GPT2Classifier, SMALL, {**LORA, "targets": ["mlp.c_fc"]}),
            "targets are attn.c_attn, mlp.c_proj; the model's are mlp.c_fc",
        ),
        (
            small_model(GPT2Classifier, SMALL, {**LORA, "rank_pattern": {"mlp.c_proj": 2}}),
            "mlp.c_proj: the adapter's rank is 4, the model's 2",
        ),
    ):
        refused(other, adapter, message)
    small_model(GPT2Model, SMALL, LORA).save_adapter(tmp_path / "bare")
    refused(victim, tmp_path / "bare", "score.weight is missing")


def test_missing_files_are_named(adapter, victim, tmp_path):
    refused(victim, tmp_path / "nowhere", f"no {CONFIG} in {tmp_path / 'nowhere'}: not an adapter")
    os.rename(adapter / WEIGHTS, adapter / "adapter_model.bin")
    refused(victim, adapter, f"no {WEIGHTS} in {adapter} (only safetensors are read, no pickles)")
    refused(victim, adapter, "from peft import AutoPeftModelForCausalLM as M; M.from_pretrained(")

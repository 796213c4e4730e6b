"""Adapters that tune weights of the base: the base keeps its own, and takes turns with them."""

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model

from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.adapters import adapter_variables, base_fingerprint, read_adapter_config
from gpt2_tuning.formats.mixed_adapters import mix
from gpt2_tuning.inference.generation import generate
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.objectives import CrossEntropy

KINDS: dict[str, Any] = {
    "all biases": {"bias": "all"},
    "own biases": {"bias": "lora_only"},
    "embedding": {"modules_to_save": ["wte"]},
    "head": {"modules_to_save": ["lm_head"]},
    "whole": {"modules_to_save": ["wte", "wpe", "ln_f", "lm_head"], "bias": "lora_only"},
}
TUNED = {"all biases": 2 * 6 + 1, "own biases": 4, "embedding": 1, "head": 1, "whole": 5 + 4}
"""How many weights of a base of two blocks each tunes."""


class Six(GPT2Tokenizer):
    """Tokens that the small model knows, none of which ends a text."""

    vocabulary = SMALL.vocab_size


def begun(kind, model_class=GPT2LanguageModel, **arguments):
    """A model with a random base, from which its adapter begins, and what the base computes."""
    model = small_model(model_class, SMALL, {"rank": 2, **KINDS[kind]}, **arguments)
    with model.disable_lora():
        base = outputs(model, batch(SMALL))
    return model, base


def tuned(kind, model_class=GPT2LanguageModel, **arguments):
    """The same with every weight of the adapter random."""
    model, base = begun(kind, model_class, **arguments)
    random = np.random.default_rng(1)
    for variable in adapter_variables(model).values():
        variable.assign(variable + random.normal(0, 0.2, variable.shape))
    return model, base


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_computes_as_before_wherever_the_adapter_is_off(kind):
    model, base = tuned(kind)
    inputs = batch(SMALL)
    function = tf.function(lambda: model(inputs, training=False))
    on = outputs(model, inputs)
    np.testing.assert_allclose(function(), on, rtol=1e-4, atol=1e-5)
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(model, inputs), base)
        np.testing.assert_allclose(function(), base, rtol=1e-4, atol=1e-5)
        with pytest.raises(UserError, match="training now would change the base"):
            model.make_train_function()
    np.testing.assert_array_equal(outputs(model, inputs), on)
    model.set_adapter(None)
    np.testing.assert_array_equal(outputs(model, inputs), base)
    model.set_adapter("default")
    np.testing.assert_array_equal(outputs(model, inputs), on)
    assert len(model.own_weights()) == TUNED[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_it_generates_under_what_is_chosen(kind, tmp_path):
    model, _ = tuned(kind)

    def tokens():
        return [done.token_ids for done in generate(model, [[1, 2, 3], [4]], 6, tokenizer=Six())]

    with_it = tokens()
    model.merge()
    assert tokens() == with_it
    model.unmerge()
    model.set_adapter(None)
    without = tokens()
    model.save_base(tmp_path / "base")
    plain = GPT2LanguageModel.from_pretrained(tmp_path / "base")
    expected = generate(plain, [[1, 2, 3], [4]], 6, tokenizer=Six())
    assert without == [done.token_ids for done in expected]
    assert with_it != without


def test_nothing_is_exported_while_it_is_switched_off(tmp_path):
    model, _ = tuned("all biases")
    with model.disable_lora(), pytest.raises(UserError, match="inside disable_lora"):
        model.merge_and_export(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("off", [False, True], ids=["on", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_comes_back_whole_and_leaves_the_base_as_it_was(kind, off, tmp_path):
    plain = small_model(GPT2LanguageModel, SMALL)
    model, base = tuned(kind)
    wanted, inputs = outputs(model, batch(SMALL)), batch(SMALL)
    if off:
        model.set_adapter(None)
    assert base_fingerprint(model) == base_fingerprint(plain)
    model.save_adapter(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "base")
    lora, extra = read_adapter_config(tmp_path / "adapter")
    assert lora == model.lora
    assert extra.base_sha256 == base_fingerprint(plain)
    again = GPT2LanguageModel.from_pretrained(tmp_path / "base", lora=lora)
    np.testing.assert_array_equal(outputs(again, inputs), base)
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(again, inputs), wanted)
    with again.disable_lora():
        np.testing.assert_array_equal(outputs(again, inputs), base)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_keeps_what_is_computed_and_unmerging_every_bit(kind, tmp_path):
    model, base = tuned(kind)
    inputs = batch(SMALL)
    on = outputs(model, inputs)
    assert model.merge() < 1e-4
    np.testing.assert_allclose(outputs(model, inputs), on, rtol=1e-3, atol=1e-4)
    model.unmerge()
    np.testing.assert_array_equal(outputs(model, inputs), on)
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(model, inputs), base)
    model.merge_and_export(tmp_path / "merged")
    apart = "lm_head" in model.lora.modules_to_save or "wte" in model.lora.modules_to_save
    fields = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert fields["tie_word_embeddings"] != apart
    if not apart:
        merged = GPT2LanguageModel.from_pretrained(tmp_path / "merged")
        np.testing.assert_allclose(outputs(merged, inputs), on, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["", "merged", "off"])
@pytest.mark.parametrize("kind", ["all biases", "whole"])
def test_keras_files_hold_both(kind, how, tmp_path):
    model, base = tuned(kind)
    inputs = batch(SMALL)
    on = outputs(model, inputs)
    if how == "merged":
        model.merge()
    elif how == "off":
        model.set_adapter(None)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "all.weights.h5")
    whole = keras.models.load_model(tmp_path / "model.keras")
    other = begun(kind)[0]
    other.load_weights(tmp_path / "all.weights.h5")
    for again in (whole, other):
        again.set_adapter("default") if how == "off" else again.unmerge()
        np.testing.assert_allclose(outputs(again, inputs), on, rtol=1e-4, atol=1e-5)
        with again.disable_lora():
            np.testing.assert_array_equal(outputs(again, inputs), base)


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_what_the_adapter_has_and_nothing_else(kind):
    model, base = begun(kind)
    model.freeze_all_but_lora()
    before = {name: weight.numpy() for name, weight in adapter_variables(model).items()}
    frozen = {w.path: w.numpy() for w in model.weights if not w.trainable}
    ids = batch(SMALL)
    labels = np.roll(ids["token_ids"], -1, axis=1)
    model.compile(keras.optimizers.SGD(0.1), CrossEntropy(), jit_compile=False)
    model.fit(ids, labels, verbose=0)
    after = adapter_variables(model)
    assert len(model.trainable_weights) == len(after)
    changed = {name for name, old in before.items() if not np.array_equal(old, after[name])}
    assert changed == set(before)
    for weight in model.weights:
        if not weight.trainable:
            np.testing.assert_array_equal(weight.numpy(), frozen[weight.path])
    with model.disable_lora():
        np.testing.assert_array_equal(outputs(model, batch(SMALL)), base)


def test_a_classifiers_head_is_saved_beside_them(tmp_path):
    lora = {"rank": 2, "modules_to_save": ["ln_f"], "bias": "lora_only"}
    model = small_model(GPT2Classifier, SMALL, lora)
    model.save_adapter(tmp_path / "adapter")
    fields = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert fields["modules_to_save"] == ["score", "transformer.ln_f"]
    assert read_adapter_config(tmp_path / "adapter")[0] == model.lora


@pytest.mark.parametrize(
    ("lora", "model_class", "message"),
    [
        ({"bias": "some"}, GPT2Model, "LoRA bias must be one of none, all, lora_only"),
        (
            {"modules_to_save": ["attn"]},
            GPT2Model,
            "gpt2 has no 'attn': choose among wte, wpe",
        ),
        ({"modules_to_save": ["lm_head"]}, GPT2Model, "modules_to_save: this model has no lm_head"),
        (
            {"modules_to_save": ["ln_f"], "bias": "all"},
            GPT2Model,
            "LoRA bias 'all' and modules_to_save both tune ln_f.bias: leave ln_f out, or take",
        ),
    ],
)
def test_what_a_base_has_not_is_one_clear_line(lora, model_class, message):
    with pytest.raises(UserError) as caught:
        model_class(SMALL, lora={"rank": 2, **lora}).build()
    assert message in str(caught.value)


def test_what_does_not_go_with_them_is_refused(tmp_path):
    model, _ = tuned("own biases")
    model.save_adapter(tmp_path / "adapter")
    inputs = batch(SMALL)
    for call in (
        lambda: model(inputs, gate=0.5),
        lambda: model.rows_gate(["default", None, None]),
        lambda: model.set_adapter({"default": 0.5}),
    ):
        with pytest.raises(UserError, match="cannot choose by row or by half an adapter"):
            call()
    plain = small_model(GPT2LanguageModel, SMALL)
    with pytest.raises(UserError, match=r"weights of the base .* cannot be added: make a model"):
        plain.load_adapter(tmp_path / "adapter", name="x")
    with pytest.raises(UserError, match="the adapter's bias is 'lora_only', the model's 'none'"):
        small_model(GPT2LanguageModel, SMALL, {"rank": 2}).load_adapter(tmp_path / "adapter")
    with pytest.raises(UserError, match="only adapters of low-rank updates alone can be mixed"):
        mix([tmp_path / "adapter"] * 2, [0.5, 0.5], tmp_path / "mixed", "cat")
    with pytest.raises(UserError, match="must be held in float32: dtype='mixed_bfloat16'"):
        small_model(GPT2LanguageModel, SMALL, {"bias": "all"}, dtype="bfloat16")

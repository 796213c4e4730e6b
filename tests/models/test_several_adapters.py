"""Several adapters on one base: each computes what it would alone, and switching is data."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model, values

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.objectives import CrossEntropy

pytestmark = pytest.mark.usefixtures("all_bits")

LORAS = {
    "tone": {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]},
    "facts": {"rank": 2, "alpha": 6, "targets": ["attn.c_attn", "attn.c_proj"], "dropout": 0.5},
}
CLASSES = {"tone": ["calm", "cross"], "facts": ["a", "b", "c", "d", "e"]}
HEADS = [GPT2Model, GPT2LanguageModel, GPT2Classifier]
CONFIG = dataclasses.replace(SMALL, n_layer=1)


def alone(model_class, name, config=CONFIG):
    """A model with one of the adapters, made with it."""
    arguments = {"label_names": CLASSES[name]} if model_class is GPT2Classifier else {}
    model = small_model(model_class, config, LORAS[name], **arguments)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The adapters of each kind of model, as they were saved by a model made with them alone."""
    directory = tmp_path_factory.mktemp("adapters")
    for model_class in HEADS:
        for name in LORAS:
            alone(model_class, name).save_adapter(directory / model_class.__name__ / name)
    return directory


def both(model_class, saved, own=False, **arguments):
    """A model that has read both; with `own` it was made with one of its own too."""
    lora = {"rank": 3, "targets": ["attn.c_proj", "mlp.c_fc"]} if own else None
    model = small_model(model_class, CONFIG, lora, **arguments)
    for name in LORAS:
        model.load_adapter(saved / model_class.__name__ / name, name=name)
    return model


def classes_of(model, name):
    return len(model.chosen_label_names(name)) if isinstance(model, GPT2Classifier) else None


@pytest.mark.parametrize("own", [False, True], ids=["plain", "with its own"])
@pytest.mark.parametrize("model_class", HEADS)
def test_each_computes_what_a_model_made_with_it_alone_computes(model_class, saved, own):
    model, inputs = both(model_class, saved, own), batch(SMALL)
    assert model.adapters == [*(["default"] if own else []), *LORAS]
    for name in LORAS:
        model.set_adapter(name)
        wanted = outputs(alone(model_class, name), inputs)
        found = outputs(model, inputs)[..., : classes_of(model, name)]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    model.set_adapter(None)
    base = small_model(model_class, CONFIG)
    found = outputs(model, inputs)[..., : classes_of(model, None)]
    np.testing.assert_array_equal(found, outputs(base, inputs))
    if own:
        model.set_adapter("default")
        lora = {"rank": 3, "targets": ["attn.c_proj", "mlp.c_fc"]}
        wanted = outputs(small_model(model_class, CONFIG, lora), inputs)
        found = outputs(model, inputs)[..., : classes_of(model, None)]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("own", [False, True], ids=["plain", "with its own"])
@pytest.mark.parametrize("model_class", HEADS)
def test_rows_of_one_batch_equal_a_batch_under_each_adapter(model_class, saved, own):
    model, inputs = both(model_class, saved, own), batch(SMALL, rows=4)
    mixed = "tone" if model_class is GPT2Classifier else {"tone": 0.7, "facts": 0.3}
    rows = ["tone", None, "facts", mixed]
    together = model(inputs, gate=model.rows_gate(rows))
    in_inputs = model({**inputs, "gate": model.rows_gate(rows)})
    np.testing.assert_array_equal(together, in_inputs)
    apart = []
    for number, choice in enumerate(rows):
        model.set_adapter(choice)
        apart.append(outputs(model, inputs)[number])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)
    assert np.abs(apart[0] - apart[1]).max() > 0.1


def test_a_mixture_is_the_sum_of_the_updates_by_their_shares(saved):
    model, inputs = both(GPT2LanguageModel, saved), batch(SMALL)
    model.set_adapter({"tone": 0.7, "facts": -0.3})
    wanted = small_model(GPT2LanguageModel, CONFIG)
    for name, share in (("tone", 0.7), ("facts", -0.3)):
        for at, layer in alone(GPT2LanguageModel, name).lora_layers().items():
            kernel = wanted.base_weights()[f"{at}.weight"]
            kernel.assign(kernel + np.float32(share) * layer.factors().delta(layer.kernel))
    np.testing.assert_allclose(
        outputs(model, inputs), outputs(wanted, inputs), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("model_class", [GPT2LanguageModel, GPT2Classifier])
def test_switching_traces_nothing_again_and_counts_in_functions_traced_before(model_class, saved):
    model, inputs = both(model_class, saved, own=True), batch(SMALL)
    model.compile(jit_compile=False)
    traces = []

    @tf.function
    def own(inputs):
        traces.append(1)
        return model(inputs, training=False)

    found: dict = {}
    for choice in ("tone", None, "facts", "default", "tone"):
        model.set_adapter(choice)
        expected = outputs(model, inputs)
        for result in (own(inputs), model.predict(inputs, verbose=0)):
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
        assert model.predict_function is found.setdefault("predict", model.predict_function)
    assert len(traces) == 1
    with model.disable_lora():
        off = outputs(model, inputs)
        np.testing.assert_array_equal(own(inputs), own(inputs))
    model.set_adapter(None)
    np.testing.assert_array_equal(outputs(model, inputs), off)


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("factor", ["a", "b"])
def test_an_adapter_that_is_not_finite_reaches_its_own_rows_alone(saved, factor, bad):
    model, inputs = both(GPT2LanguageModel, saved), batch(SMALL)
    gate = model.rows_gate(["tone", None, "facts"])
    before = np.asarray(model(inputs, gate=gate))
    for _, _, factors in model.gate.added["facts"].layers.values():
        variable = getattr(factors, factor)
        variable.assign(np.full(variable.shape, bad, np.float32))
    after = np.asarray(model(inputs, gate=gate))
    np.testing.assert_allclose(after[:2], before[:2], atol=1e-6)
    assert np.isnan(after[2]).any()
    model.set_adapter("tone")
    np.testing.assert_allclose(outputs(model, inputs)[0], before[0], rtol=1e-4, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs, training=True) ** 2)
    variables = [v for v in model.trainable_weights if v.name in ("lora_A", "lora_B", "kernel")]
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, variables))


def fitted(model, inputs, epochs=1):
    labels = np.zeros(len(inputs["token_ids"]), "int32")
    model.fit(inputs, labels, epochs=epochs, verbose=0, shuffle=False)


def test_fit_changes_what_is_chosen_and_no_bit_of_the_others(saved):
    model, inputs = both(GPT2Classifier, saved, own=True), batch(SMALL)
    model.freeze_all_but_lora()
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), CrossEntropy(), jit_compile=False)
    parts = {name: list(adapter.weights().values()) for name, adapter in model.gate.added.items()}
    parts["default"] = [*model.lora_weights().values(), model.score.kernel]
    function = None
    for chosen in ("tone", "facts", "default", "tone"):
        model.set_adapter(chosen)
        before = {name: [v.numpy() for v in found] for name, found in parts.items()}
        fitted(model, inputs)
        for name, found in parts.items():
            same = [np.array_equal(v, b) for v, b in zip(found, before[name], strict=True)]
            assert not any(same) if name == chosen else all(same), name
        function = function or model.train_function
        assert model.train_function is function
    model.set_adapter(None)  # the base and its head, of which the former is frozen
    before = values(model)
    fitted(model, inputs)
    changed = [not np.array_equal(v, b) for v, b in zip(model.weights, before, strict=True)]
    assert [v for v, c in zip(model.weights, changed, strict=True) if c] == [model.score.kernel]


def test_rows_train_the_adapters_that_they_have(saved):
    model, inputs = both(GPT2Classifier, saved), batch(SMALL)
    model.freeze_all_but_lora()
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), CrossEntropy(), jit_compile=False)
    before = {n: [v.numpy() for v in a.weights().values()] for n, a in model.gate.added.items()}
    fitted(model, {**inputs, "gate": model.rows_gate(["facts", "facts", "facts"])})
    for name, adapter in model.gate.added.items():
        pairs = zip(adapter.weights().values(), before[name], strict=True)
        same = [np.array_equal(v, b) for v, b in pairs]
        assert all(same) if name == "tone" else not any(same)


def test_an_added_adapter_learns_as_one_the_model_was_made_with():
    lora = {"rank": 2, "alpha": 4, "dropout": 0.3}
    losses = []
    for added in (False, True):
        keras.utils.set_random_seed(0)
        model = small_model(GPT2LanguageModel, CONFIG, None if added else lora)
        if added:
            model.add_adapter("tone", lora)
        factors = model.gate.added["tone"].lora_weights() if added else model.lora_weights()
        random = np.random.default_rng(3)
        for variable in factors.values():
            variable.assign(random.normal(0, 0.3, variable.shape))
        model.freeze_all_but_lora()
        model.compile(keras.optimizers.AdamW(1e-3), "mse", jit_compile=False)
        inputs = batch(SMALL)
        targets = np.zeros((3, 9, SMALL.vocab_size), "float32")
        history = model.fit(inputs, targets, epochs=3, verbose=0, shuffle=False).history
        losses.append(history["loss"])
        assert model.count_parameters()["LoRA"].trainable == 2 * (32 + 96 + 32 + 32)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][2] != losses[0][0]


def test_a_model_saved_with_its_adapters_is_loaded_with_them(tmp_path, saved):
    model, inputs = both(GPT2Classifier, saved, own=True), batch(SMALL)
    model.set_adapter("facts")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.adapters == model.adapters
    for choice in ("facts", "tone", "default", None):
        np.testing.assert_array_equal(outputs(again, inputs), outputs(model, inputs))
        for each in (model, again):
            each.set_adapter(choice)
        assert again.chosen_label_names() == model.chosen_label_names()


def test_an_adapter_saved_by_name_is_the_file_that_was_loaded(tmp_path, saved):
    for model_class in (GPT2LanguageModel, GPT2Classifier):
        model = both(model_class, saved)
        for name in LORAS:
            model.save_adapter(tmp_path / model_class.__name__ / name, name=name)
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                found, wanted = (d / model_class.__name__ / name / file for d in (tmp_path, saved))
                assert found.read_bytes() == wanted.read_bytes()
    with pytest.raises(UserError, match="of several needs a name: tone, facts"):
        model.save_adapter(tmp_path / "other")


def test_what_is_chosen_is_merged_and_taken_out_again(tmp_path, saved):
    model, inputs = both(GPT2LanguageModel, saved, own=True), batch(SMALL)
    model.set_adapter({"tone": 0.5, "default": 1.0})
    before, expected = values(model), outputs(model, inputs)
    model.merge_and_export(tmp_path / "export")
    assert model.merge() < 1e-4
    np.testing.assert_allclose(outputs(model, inputs), expected, atol=1e-4)
    with pytest.raises(UserError, match=r"set_adapter\(\) on a merged model"):
        model.set_adapter("facts")
    model.unmerge()
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))
    np.testing.assert_array_equal(outputs(model, inputs), expected)
    exported = GPT2LanguageModel.from_pretrained(tmp_path / "export")
    np.testing.assert_allclose(outputs(exported, inputs), expected, atol=1e-4)
    model.set_adapter(None)
    with pytest.raises(UserError, match="no adapter is chosen that could be merged"):
        model.merge()


def test_a_merged_classifier_has_the_head_and_the_classes_of_its_adapter(tmp_path, saved):
    model, inputs = both(GPT2Classifier, saved), batch(SMALL)
    model.set_adapter("facts")
    expected = outputs(model, inputs)
    model.merge_and_export(tmp_path / "export")
    exported = GPT2Classifier.from_pretrained(tmp_path / "export")
    assert exported.label_names == CLASSES["facts"]
    np.testing.assert_allclose(outputs(exported, inputs), expected, atol=1e-4)
    model.merge()
    np.testing.assert_allclose(outputs(model, inputs), expected, atol=1e-4)


def test_a_deleted_adapter_is_gone_and_its_name_is_free(saved):
    model, inputs = both(GPT2LanguageModel, saved), batch(SMALL)
    weights = len(model.weights)
    model.set_adapter({"tone": 1.0, "facts": 1.0})
    model.delete_adapter("facts")
    assert (model.adapters, model.chosen_adapters) == (["tone"], {"tone": 1.0})
    assert len(model.weights) == weights - 4
    wanted = outputs(alone(GPT2LanguageModel, "tone"), inputs)
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-4, atol=1e-5)
    model.load_adapter(saved / "GPT2LanguageModel" / "facts", name="facts")
    model.delete_adapter("facts")
    model.delete_adapter("tone")
    assert model.gate is None
    base = small_model(GPT2LanguageModel, CONFIG)
    np.testing.assert_array_equal(outputs(model, inputs), outputs(base, inputs))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("style", "unknown adapter 'style': the model has tone, facts"),
        ({"tone": np.nan}, "the share of adapter tone must be a finite number, not nan"),
        ({"tone": True}, "the share of adapter tone must be a finite number, not True"),
        (["tone"], "chooses no adapter"),
        ({"tone": 0.7, "facts": 0.3}, "heads of different classes cannot be mixed"),
    ],
)
def test_a_choice_that_is_none_is_refused_and_changes_nothing(saved, choice, message):
    model = both(GPT2Classifier, saved)
    before = outputs(model, batch(SMALL))
    with pytest.raises(UserError, match=message):
        model.set_adapter(choice)
    with pytest.raises(UserError, match=message):
        model.rows_gate([choice])
    np.testing.assert_array_equal(outputs(model, batch(SMALL)), before)


def test_an_adapter_that_cannot_be_added_leaves_the_model_as_it_was(saved, tmp_path):
    model = both(GPT2Classifier, saved)
    before, adapters = values(model), model.adapters
    other = small_model(GPT2Classifier, CONFIG, LORAS["tone"], seed=1)
    other.save_adapter(tmp_path / "other")
    wider = dataclasses.replace(CONFIG, n_embd=16)
    small_model(GPT2Classifier, wider, LORAS["tone"]).save_adapter(tmp_path / "narrow")
    refusals = [
        (tmp_path / "other", "new", "the adapter's base has other weights than the model's base"),
        (tmp_path / "narrow", "new", "another base size"),
        (saved / "GPT2LanguageModel" / "tone", "new", "the adapter has no classifier's head"),
        (saved / "GPT2Classifier" / "tone", "tone", "has an adapter 'tone' already"),
        (saved / "GPT2Classifier" / "tone", "default", "is the adapter that a model is made with"),
        (saved / "GPT2Classifier" / "tone", "a/b", "name is made of letters, digits"),
        (saved / "GPT2Classifier" / "tone", None, "needs a name for it"),
    ]
    for directory, name, message in refusals:
        with pytest.raises(UserError, match=message) as caught:
            model.load_adapter(directory, name=name)
        assert "\n" not in str(caught.value)
    for arguments, message in (
        (("new", {"rank": 64, "init": "pissa"}), "is above the size of"),
        (("new", None), "needs a LoRAConfig, or a dict such as"),
        ((None, {"rank": 2}), "name is made of letters, digits"),
        (("new", {"layers": 1}), "layers must be a list of blocks"),
        (("new", {"rank": 2}, "ab"), "label_names must be a list, such as .*, not 'ab'"),
        (("new", {"rank": 2}, [1, 2]), "label_names must be a list"),
        (("new", {"rank": 2}, []), "two classes or more, all different"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            model.add_adapter(*arguments)
        assert "\n" not in str(caught.value)
    for call, message in (
        (lambda: model.delete_adapter(None), "None is not the name of an adapter"),
        (
            lambda: model.delete_adapter({"tone": 1.0}),
            "{'tone': 1.0} is not the name of an adapter",
        ),
        (lambda: model.delete_adapter("style"), "unknown adapter 'style': the model has tone"),
        (lambda: model.save_adapter(tmp_path / "x", name={"tone": 1}), "is not the name of an"),
        (lambda: model.rows_gate("tone"), "adapters is not a list: give an adapter, or None, for"),
        (lambda: model.rows_gate({"tone": 1.0}), "adapters is not a list"),
        (lambda: model.rows_gate(None), "adapters is not a list"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert model.adapters == adapters
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def test_adapters_added_after_compile_ask_for_another(saved):
    model = both(GPT2Classifier, saved)
    model.compile("adam", CrossEntropy(), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    model.add_adapter("new", {"rank": 1}, label_names=["x", "y"])
    with pytest.raises(UserError, match="compile the model again"):
        fitted(model, batch(SMALL))


def test_a_file_keeps_what_is_chosen_of_one_adapter_too(tmp_path):
    model = alone(GPT2LanguageModel, "tone")
    for choice in ({"default": 0.5}, None):
        model.set_adapter(choice)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(outputs(again, batch(CONFIG)), outputs(model, batch(CONFIG)))

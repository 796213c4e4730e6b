"""What people do to any Keras model works on ours: saved, loaded, cloned, exported, summed up."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from lora_models import SMALL, batch, outputs, small_model, unchanged, values

from gpt2_tuning.data.datasets import text_dataset
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.keras_state import named_weights
from gpt2_tuning.training.objectives import Accuracy, CrossEntropy

KEPT = Path(__file__).parent / "kept"
"""Files of an earlier version, which every later one reads."""

CONFIG = dataclasses.replace(SMALL, n_layer=1)
MODELS = (GPT2Model, GPT2LanguageModel, GPT2Classifier)
LORA = {"rank": 2, "alpha": 4, "dropout": 0.25, "targets": ["attn.c_attn", "mlp.c_proj"]}
ALL = pytest.mark.parametrize(
    ("model_class", "lora"),
    [(model_class, lora) for model_class in MODELS for lora in (None, LORA)],
    ids=lambda value: value.__name__ if isinstance(value, type) else "lora" if value else "full",
)


def make(model_class, lora, config=CONFIG, **arguments):
    """A model of which some weights are frozen."""
    model = small_model(model_class, config, lora, **arguments)
    if lora:
        model.freeze_all_but_lora()
    else:
        model.transformer.places.trainable = False
    return model


def frozen(model):
    return [name for name, weight in named_weights(model).items() if not weight.trainable]


def saved_and_loaded(model, directory):
    model.save(directory / "model.keras")
    return keras.models.load_model(directory / "model.keras")


def same_weights(model, other):
    return unchanged(model, values(other))


@ALL
def test_a_loaded_model_is_the_one_saved_down_to_what_is_frozen(tmp_path, model_class, lora):
    model = make(model_class, lora)
    model.pretrained_name = "openai-community/gpt2"
    model.rematerialize = True
    again = saved_and_loaded(model, tmp_path)
    assert type(again) is model_class
    assert same_weights(again, model)
    assert np.array_equal(outputs(again, batch(CONFIG)), outputs(model, batch(CONFIG)))
    assert frozen(again) == frozen(model) != []
    assert (again.lora, again.config) == (model.lora, model.config)
    assert again.pretrained_name == "openai-community/gpt2"
    assert again.rematerialize


@ALL
def test_weights_alone_are_taken_by_a_model_of_the_same_arguments(tmp_path, model_class, lora):
    model, other = make(model_class, lora), make(model_class, lora, seed=1)
    assert not same_weights(other, model)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert same_weights(other, model)
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert list(file) == ["vars"]  # each weight once, under no name of ours
        assert set(file["vars"]) - {"dropout.0", "dropout.1"} == set(named_weights(model))


@ALL
def test_a_clone_has_weights_of_its_own_and_the_same_ones_frozen(model_class, lora):
    model = make(model_class, lora)
    clone = keras.models.clone_model(model)
    assert (clone.lora, clone.config, frozen(clone)) == (model.lora, model.config, frozen(model))
    assert not same_weights(clone, model)
    clone.set_weights(model.get_weights())
    assert np.array_equal(outputs(clone, batch(CONFIG)), outputs(model, batch(CONFIG)))


@pytest.mark.slow
@ALL
def test_an_export_takes_int32_rows_of_any_number_and_length(tmp_path, model_class, lora):
    model = make(model_class, lora)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    _, named = exported.signatures["serving_default"].structured_input_signature
    assert set(named) == {"token_ids", "attention_mask"}
    for rows, length in ((3, 9), (1, 4)):
        inputs = batch(CONFIG, rows, length)
        theirs = exported.serve(inputs).numpy()
        np.testing.assert_allclose(theirs, outputs(model, inputs), atol=1e-5)


@ALL
def test_a_summary_shows_the_shape_of_every_layer(model_class, lora):
    lines: list[str] = []
    make(model_class, lora).summary(print_fn=lines.append, line_length=120, expand_nested=False)
    text = "\n".join(lines)
    assert "(None, None, 32)" in text
    assert "?" not in text


@ALL
def test_a_model_that_was_only_made_is_summed_up_saved_and_takes_weights(
    tmp_path, model_class, lora
):
    arguments = {"lora": lora, **({"num_classes": 3} if model_class is GPT2Classifier else {})}
    lines: list[str] = []
    model_class(CONFIG, **arguments).summary(print_fn=lines.append)
    assert "unbuilt" not in "\n".join(lines)
    model = model_class(CONFIG, **arguments)
    model.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    assert unchanged(again, values(model))
    model.save_weights(tmp_path / "new.weights.h5")
    other = model_class(CONFIG, **arguments)
    other.load_weights(tmp_path / "new.weights.h5")
    assert unchanged(other, values(model))


def test_a_merged_model_is_loaded_merged_and_unmerges_to_the_same_bits(tmp_path):
    model = make(GPT2Classifier, LORA)
    before = values(model)
    model.merge()
    again = saved_and_loaded(model, tmp_path)
    assert np.array_equal(outputs(again, batch(CONFIG)), outputs(model, batch(CONFIG)))
    assert again.merge() == model.merge()  # already merged: the difference that merging made
    again.unmerge()
    assert unchanged(again, before)
    assert again.gate.on


def test_weights_of_an_unmerged_model_unmerge_the_one_that_takes_them(tmp_path):
    model, other = make(GPT2Classifier, LORA), make(GPT2Classifier, LORA, seed=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other.merge()
    other.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(outputs(other, batch(CONFIG)), outputs(model, batch(CONFIG)))
    assert not other.kept_kernels


def test_merged_weights_are_refused_where_the_updates_are_switched_off(tmp_path):
    model, other = make(GPT2Classifier, LORA), make(GPT2Classifier, LORA)
    model.merge()
    model.save_weights(tmp_path / "model.weights.h5")
    with other.disable_lora(), pytest.raises(ValueError, match="leave that block first"):
        other.load_weights(tmp_path / "model.weights.h5")


def test_weights_of_another_kind_of_model_are_refused_by_name(tmp_path):
    make(GPT2Classifier, LORA).save_weights(tmp_path / "lora.weights.h5")
    make(GPT2Model, None).save_weights(tmp_path / "base.weights.h5")
    with pytest.raises(
        ValueError, match=r"the file has a weight h\.0\.attn\.c_attn\.lora_A\.weight"
    ):
        make(GPT2Classifier, None).load_weights(tmp_path / "lora.weights.h5")
    with pytest.raises(ValueError, match=r"the model has a weight score\.weight"):
        make(GPT2Classifier, None).load_weights(tmp_path / "base.weights.h5")


def test_training_goes_on_from_a_file_as_it_would_have_without(tmp_path):
    """The optimizer's state comes back, and dropout drops what it would have dropped."""
    config = dataclasses.replace(CONFIG, resid_pdrop=0.5)
    model = make(GPT2Classifier, LORA, config)
    model.compile(keras.optimizers.AdamW(0.01), CrossEntropy(), weighted_metrics=[Accuracy()])
    step = {"x": batch(config), "y": np.array([0, 1, 2]), "shuffle": False, "verbose": 0}
    model.fit(**step)
    again = saved_and_loaded(model, tmp_path)
    expected, found = (each.fit(**step, epochs=2).history for each in (model, again))
    assert found.keys() == expected.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    assert found["loss"][0] != pytest.approx(found["loss"][1], rel=1e-3)  # as dropout differs


@pytest.mark.slow
@ALL
def test_callbacks_of_fit_keep_what_they_are_to_keep(tmp_path, model_class, lora):
    model = make(model_class, lora)
    inputs, targets = batch(CONFIG), outputs(make(model_class, lora, seed=1), batch(CONFIG))
    whole, weights = tmp_path / "{epoch}.keras", tmp_path / "{epoch}.weights.h5"
    after_epoch = []
    callbacks = [
        keras.callbacks.ModelCheckpoint(str(whole)),
        keras.callbacks.ModelCheckpoint(str(weights), save_weights_only=True),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: after_epoch.append(values(model))),
    ]
    model.compile(keras.optimizers.AdamW(1e-4), "mse")
    dataset = tf.data.Dataset.from_tensors((inputs, targets))
    model.fit(dataset, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    other = make(model_class, lora, seed=2)
    for epoch, expected in enumerate(after_epoch, start=1):
        other.load_weights(tmp_path / f"{epoch}.weights.h5")
        loaded = keras.models.load_model(tmp_path / f"{epoch}.keras")
        assert unchanged(other, expected)
        assert unchanged(loaded, expected)
    assert not unchanged(model, after_epoch[0])


def test_class_weights_of_fit_weigh_the_loss():
    model = make(GPT2Classifier, None)
    labels, weights = np.array([0, 1, 2]), {0: 1.0, 1: 0.0, 2: 3.0}
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy())
    losses = keras.ops.convert_to_numpy(
        keras.losses.sparse_categorical_crossentropy(
            labels, outputs(model, batch(CONFIG)), from_logits=True
        )
    )
    history = model.fit(batch(CONFIG), labels, class_weight=weights, verbose=0).history
    np.testing.assert_allclose(history["loss"], [(losses[0] + 3 * losses[2]) / 4], rtol=1e-5)


def test_class_weights_beside_weights_of_a_dataset_are_refused():
    model = GPT2LanguageModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=64))
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy())
    dataset = text_dataset(["some text"], seq_len=32, batch_size=1)
    with pytest.raises(UserError, match="has a weight for each label already"):
        model.fit(dataset, class_weight={0: 1.0}, verbose=0)


LOAD = """
import sys
import keras
import numpy as np
from gpt2_tuning import GPT2Model  # any model: Keras then knows all of them

model = keras.models.load_model(sys.argv[1])
with np.load(sys.argv[2]) as kept:
    inputs = {name: kept[name] for name in ("token_ids", "attention_mask")}
    np.testing.assert_allclose(model(inputs), kept["logits"], atol=1e-5)
    frozen = sorted(weight.path for weight in model.weights if not weight.trainable)
assert model.lora.rank == 2 and model.compiled and model.label_names == ["no", "maybe", "yes"]
assert len(frozen) == 28 and not any("lora" in path or "score" in path for path in frozen)
"""


def test_a_file_of_an_earlier_version_gives_the_same_logits_in_a_new_process():
    """The file was made by `make_kept.py` beside it; a change that breaks this breaks users'."""
    files = [str(KEPT / name) for name in ("classifier.keras", "classifier.npz")]
    assert sum(Path(file).stat().st_size for file in files) < 200_000
    subprocess.run([sys.executable, "-c", LOAD, *files], check=True, timeout=120)

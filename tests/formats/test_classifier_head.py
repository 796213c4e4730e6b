"""A classifier from a checkpoint of one: its classes keep their scores, whatever their order."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from samples import inputs_of, randomize

from classification_tuning import prep_dataset, train
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.formats.classifier_head import match
from gpt2_tuning.inference.classification import classify_text
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model

SMALL = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=97)
NAMES = ["no", "maybe", "yes"]
INPUTS = inputs_of([[1, 2, 3], [4, 5, 6, 7], [8]])


@pytest.fixture
def model():
    return randomize(GPT2Classifier(SMALL, label_names=NAMES).built_now())


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def by_name(model):
    logits = np.asarray(model(INPUTS))
    return {name: logits[:, place].tolist() for place, name in enumerate(model.label_names)}


def edit_config(directory, **changes):
    fields = {**json.loads((directory / "config.json").read_text()), **changes}
    kept = {name: value for name, value in fields.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(kept))


def said(capsys, directory):
    """The notes on standard error, without the directory that each begins with."""
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"note: {directory}: ") for line in lines)
    return [line.removeprefix(f"note: {directory}: ") for line in lines]


# --- the rule --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "rows", "names"),
    [
        (["a", "b"], ["a", "b"], [0, 1], ["a", "b"]),
        (["a", "b", "c"], ["c", "a", "b"], [1, 2, 0], ["a", "b", "c"]),
        (["LABEL_0", "LABEL_1"], ["b", "a"], [0, 1], ["LABEL_0", "LABEL_1"]),
        (["b", "a"], ["LABEL_0", "LABEL_1"], [0, 1], ["b", "a"]),
        (["LABEL_0", "LABEL_1"], ["LABEL_1", "LABEL_0"], [1, 0], ["LABEL_0", "LABEL_1"]),
        (["a", "b"], ["a", "c"], None, ["a", "b"]),
        (["a", "b"], ["a", "b", "c"], None, ["a", "b"]),
        (["LABEL_0", "LABEL_1"], ["a", "b", "c"], None, ["LABEL_0", "LABEL_1"]),
        (["a", "b", "c"], ["LABEL_0", "LABEL_1"], None, ["a", "b", "c"]),
    ],
)
def test_heads_are_matched_by_name_else_in_order_else_not(mine, theirs, rows, names):
    found = match(mine, theirs)
    assert (found.rows, found.label_names) == (rows, names)
    assert (found.note is None) == (mine == theirs)


def test_only_a_model_without_names_of_its_own_takes_a_checkpoints(saved):
    """Data may call its classes LABEL_0 and so on, and its metadata.json keeps those names."""
    assert match(["LABEL_0", "LABEL_1"], ["b", "a"], given=False).label_names == ["b", "a"]
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert GPT2Classifier.from_pretrained(saved, label_names=names).label_names == names
    unnamed = GPT2Classifier.from_pretrained(saved, num_classes=3)
    assert unnamed.label_names == ["no", "maybe", "yes"]


# --- in models -------------------------------------------------------------------------------


def test_the_same_names_in_another_order_keep_their_scores(model, saved, capsys):
    again = GPT2Classifier.from_pretrained(saved, label_names=["yes", "no", "maybe"])
    assert again.label_names == ["yes", "no", "maybe"]
    assert by_name(again) == by_name(model)
    note = "its classes are in the order no, maybe, yes: the head's are matched by name"
    assert said(capsys, saved) == [note]
    other = GPT2Classifier(SMALL, label_names=["maybe", "yes", "no"]).built_now()
    other.load_weights_from(saved)
    assert by_name(other) == by_name(model)
    assert said(capsys, saved) == [note]


def test_classes_without_names_are_kept_in_order_and_take_the_checkpoints(model, saved, capsys):
    again = GPT2Classifier.from_pretrained(saved, num_classes=3)
    assert again.label_names == NAMES
    assert by_name(again) == by_name(model)
    assert said(capsys, saved) == ["its head's classes are kept in order, as no, maybe, yes"]


@pytest.mark.parametrize("id2label", [..., {str(i): f"LABEL_{i}" for i in range(3)}])
def test_a_checkpoint_without_names_is_kept_in_order(model, saved, capsys, id2label):
    edit_config(saved, id2label=id2label)
    again = GPT2Classifier.from_pretrained(saved, label_names=["x", "y", "z"])
    assert again.label_names == ["x", "y", "z"]
    np.testing.assert_array_equal(again(INPUTS), model(INPUTS))
    assert said(capsys, saved) == ["its head's classes are kept in order, as x, y, z"]
    assert GPT2Classifier.from_pretrained(saved).label_names == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert said(capsys, saved) == []


@pytest.mark.parametrize("names", [["no", "yes"], ["no", "maybe", "sure"], ["a", "b", "c", "d"]])
def test_other_classes_get_the_head_that_a_fresh_model_of_the_seed_has(model, saved, names, capsys):
    keras.utils.set_random_seed(5)
    fresh = GPT2Classifier(SMALL, label_names=names).built_now()
    for seed, same in ((5, True), (6, False)):
        keras.utils.set_random_seed(seed)
        again = GPT2Classifier.from_pretrained(saved, label_names=names)
        assert np.array_equal(again.score.kernel.numpy(), fresh.score.kernel.numpy()) == same
        np.testing.assert_array_equal(again.transformer(INPUTS), model.transformer(INPUTS))
        assert again.label_names == names
        listed = ", ".join(names)
        note = f"its classes are no, maybe, yes, not {listed}: a new head begins at random"
        assert said(capsys, saved) == [note]
    assert np.std(fresh.score.kernel) == pytest.approx(SMALL.initializer_range, rel=0.5)


def test_a_checkpoint_without_a_head_leaves_the_models_and_says_nothing(tmp_path, capsys):
    randomize(GPT2Model(SMALL).built_now()).save_pretrained(tmp_path / "base")
    assert np.std(GPT2Classifier.from_pretrained(tmp_path / "base", num_classes=2).score.kernel) > 0
    assert capsys.readouterr().err == ""


def test_a_classifier_whose_head_is_missing_is_refused(saved):
    arrays = load_file(saved / "model.safetensors")
    save_file({k: v for k, v in arrays.items() if k != "score.weight"}, saved / "model.safetensors")
    for arguments in ({}, {"num_classes": 3}):
        with pytest.raises(UserError, match=r"score\.weight is missing, though it is a classifier"):
            GPT2Classifier.from_pretrained(saved, **arguments)


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        (["no", "maybe", "yes"], "is ['no', 'maybe', 'yes'], not an object of names by number"),
        ({"a": "no", "b": "maybe", "c": "yes"}, "has the keys a, b, c, not the numbers from 0 on"),
        ({"0": "no", "1": "maybe", "3": "yes"}, "has the keys 0, 1, 3, not the numbers from 0 on"),
        ({"0": "no", "1": "no", "2": "yes"}, "has the name 'no' more than once"),
        ({"0": "no", "1": 1, "2": "yes"}, "has a name that is no text: ['no', 1, 'yes']"),
        ({"0": "no", "1": "yes"}, "names 2 classes; score.weight has 3"),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"num_classes": 3}, {"label_names": NAMES}], ids=str)
def test_a_malformed_id2label_is_named(saved, id2label, message, arguments):
    edit_config(saved, id2label=id2label)
    with pytest.raises(UserError) as caught:
        GPT2Classifier.from_pretrained(saved, **arguments)
    assert str(caught.value) == f"{saved / 'config.json'}: id2label {message}"


# --- in scripts ------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """A classifier of three classes whose id2label has them in an order of its own."""
    config = dataclasses.replace(SMALL, vocab_size=50257, n_positions=64)
    model = randomize(GPT2Classifier(config, label_names=["yes", "no", "maybe"]).built_now())
    model.save_pretrained(tmp_path / "three")
    return model


def prepared(file, directory):
    flags = ["--train_file", file, "--seq_len", 32, "--output_dir", directory]
    assert prep_dataset.main([str(flag) for flag in flags]) == 0
    return directory


def test_predictions_by_name_are_the_same_in_the_order_of_the_data(three, cases, tmp_path, capsys):
    file = cases / "labels_order" / "three.jsonl"
    names = read_metadata(prepared(file, tmp_path / "data"), "classification").label_names
    assert names is not None
    assert names != three.label_names
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()][:12]
    again = GPT2Classifier.from_pretrained(tmp_path / "three", label_names=names)
    before, after = (classify_text(model, texts, seq_len=32) for model in (three, again))
    assert len({found.label for found in before}) > 1
    assert [found.label for found in after] == [found.label for found in before]
    for one, other in zip(before, after, strict=True):
        assert other.probabilities == pytest.approx(one.probabilities)


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ("three", "its classes are in the order yes, no, maybe: the head's are matched by name"),
        ("two", "its classes are yes, no, maybe, not maybe, no: a new head begins at random"),
    ],
)
@pytest.mark.usefixtures("three")
def test_train_says_once_how_the_head_was_taken(cases, tmp_path, capsys, rows, note):
    data = prepared(cases / "labels_order" / f"{rows}.jsonl", tmp_path / "data")
    capsys.readouterr()
    paths = ["--dataset_dir", data, "--pretrained", tmp_path / "three", "--output_dir"]
    assert train.main([*map(str, paths), str(tmp_path / "run"), "--epochs", "1"]) == 0
    assert capsys.readouterr().err.count(f"note: {tmp_path / 'three'}: {note}\n") == 1

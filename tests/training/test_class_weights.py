"""Rows count by their class, over the whole batch, and nothing but training is changed."""

import json

import numpy as np
import pytest
import tensorflow as tf
from prepared_sets import header
from samples import randomize
from script_runs import refused
from sklearn.utils.class_weight import compute_class_weight

from classification_tuning import prep_dataset, train
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.training.class_weights import class_weights, in_words
from gpt2_tuning.training.objective import RightClass
from gpt2_tuning.training.optimizer import make_optimizer
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import make_strategy

NAMES = ["joy", "fear", "love"]
COUNTS = {"joy": 60, "fear": 10, "love": 30}
WEIGHTS = np.array([0.5, 3.0, 1.25], np.float32)
SMOOTHING = 0.1
CONFIG = GPT2Config(
    n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=97, initializer_range=0.2,
    embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
)  # fmt: skip


def data(counts=COUNTS):
    return header(label_names=NAMES, splits={"train": {"labels": counts}})


def records():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 97, length).tolist() for length in rng.integers(1, 20, 12)]
    labels = rng.integers(0, 3, 12).astype(np.int32)
    return Records.of(rows, label=labels).weighted(WEIGHTS[labels])


@pytest.fixture(scope="module")
def model():
    return randomize(GPT2Classifier(CONFIG, num_classes=3).built_now())


def test_balanced_is_as_scikit_learn_has_it():
    labels = np.repeat(np.arange(3), [COUNTS[name] for name in NAMES])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = class_weights("balanced", data())
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("source", [BatchSource, PackedExamples])
def test_the_sums_of_a_step_are_those_of_its_definition(model, source):
    batch = next(iter(source(records(), 12).epoch(0, 0)))
    logits = model(batch.inputs).numpy().reshape(-1, 3)
    targets, weights = batch.targets.reshape(-1), batch.weights.reshape(-1)
    np.testing.assert_allclose(weights.sum(), records().columns["weight"].sum(), rtol=1e-6)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    right = logs[np.arange(len(logs)), targets]
    plain = -(weights * right).sum()
    smooth = -(weights * ((1 - SMOOTHING) * right + SMOOTHING * logs.mean(axis=1))).sum()
    objective = RightClass(model, SMOOTHING)
    for training, expected in ((True, smooth), (False, plain)):
        loss, hits = objective.sums(batch.inputs, batch.targets, batch.weights, training)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(hits, (weights * (logits.argmax(1) == targets)).sum(), rtol=1e-5)


@pytest.mark.slow
def test_a_batch_is_divided_by_its_weights_however_it_is_computed():
    """In parts whose rows have unequal weights, and several rows in one."""
    ends = []
    for source, accumulation in ((BatchSource, 1), (BatchSource, 3), (PackedExamples, 1)):
        tf.keras.utils.set_random_seed(0)
        one = randomize(GPT2Classifier(CONFIG, num_classes=3).built_now())
        optimizer = make_optimizer("adamw", 1e-2, 0.0, 4, 0.0)
        steps = StepFunctions(
            RightClass(one, SMOOTHING), make_strategy("one"), optimizer, 1.0, accumulation
        )
        batch = next(iter(source(records(), 12).epoch(0, 0)))
        ends.append((steps.train(batch).numpy(), one.score.kernel.numpy()))
    for sums, kernel in ends[1:]:
        np.testing.assert_allclose(sums, ends[0][0], rtol=1e-4)
        np.testing.assert_allclose(kernel, ends[0][1], atol=1e-6)


@pytest.mark.parametrize("name", ["w.json", "w.yaml"])
def test_a_file_names_every_class_whatever_its_order(tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps({"love": 1.25, "joy": 0.5, "fear": 3}))
    found = class_weights(str(path), data())
    assert found is not None
    np.testing.assert_array_equal(found, WEIGHTS)
    assert in_words(found, NAMES, most=2) == "joy 0.5, fear 3 and 1 more"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"joy": 1, "fear": 2}, "no weight for class 'love'"),
        ({"joy": 1, "fear": 2, "love": 3, "hate": 4}, "there is no class 'hate'"),
        ({"joy": 1, "fear": -2, "love": 3}, "weight of 'fear' must be a number above 0"),
        ({"joy": 0, "fear": 0, "love": 0}, "weight of 'joy' must be a number above 0"),
        ({"joy": 1, "fear": "2", "love": 3}, "weight of 'fear' must be a number above 0"),
        ({"joy": 1, "fear": float("inf"), "love": 3}, "weight of 'fear' must be a number"),
        ([1, 2, 3], "does not hold a JSON object"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "w.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        class_weights(str(path), data())


def test_what_yaml_takes_for_truth_values_wants_quotes(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("yes: 1\nno: 2\n")
    with pytest.raises(UserError, match="write them in quotes"):
        class_weights(str(path), data())


def test_a_class_without_rows_cannot_be_balanced():
    with pytest.raises(UserError, match="no row of class 'fear'"):
        class_weights("balanced", data({**COUNTS, "fear": 0}))


@pytest.mark.slow
def test_a_run_says_its_weights_keeps_them_and_resumes_with_no_others(tmp_path, capsys):
    flags = ["--dataset", "sample", "--limit", 60, "--output_dir", tmp_path / "data"]
    assert prep_dataset.main([*map(str, flags)]) == 0
    run = ["--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "run", "--epochs", 1]
    run = [*map(str, run), "--model_size", "tiny", "--pretrained", "none"]
    names = json.loads((tmp_path / "data" / "metadata.json").read_text())["label_names"]
    path = tmp_path / "w.json"
    path.write_text(json.dumps({name: number + 1 for number, name in enumerate(names)}))
    flags = [*run, "--class_weights", str(path), "--label_smoothing", "0.1", "--keep_checkpoints"]
    assert train.main(flags) == 0
    assert f"class weights: {names[0]} 1, {names[1]} 2" in capsys.readouterr().out
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| class | rows | weight | recall | precision |" in card
    assert "smoothed by 0.1" in card
    path.write_text(json.dumps(dict.fromkeys(names, 1)))
    line = refused(train.main, capsys, *flags, "--resume")
    assert "is of another run: its train split is" in line

"""The layout of a run: chosen by the device, recorded, kept; where packed, of few shapes."""

import dataclasses
from importlib import import_module

import numpy as np
import pytest
import yaml
from script_runs import metrics, refused, with_sample_and_base
from tuner_runs import OPTIONS, assert_same_run, killed_run, make_tuner

from classification_tuning import train
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.options.training import ClassifierOptions, LanguageModelOptions
from gpt2_tuning.training import checkpoint, layout

ON_CPU = [(ClassifierOptions, "buckets"), (LanguageModelOptions, "packed")]


@pytest.fixture
def a_gpu(monkeypatch):
    """Where layouts are chosen, a GPU is visible."""
    monkeypatch.setattr(layout.tf.config, "get_visible_devices", lambda kind: [kind])


@pytest.mark.parametrize(("options_class", "on_cpu"), ON_CPU)
def test_auto_is_what_suits_the_device(monkeypatch, options_class, on_cpu):
    assert layout.with_layout(options_class()).layout == on_cpu
    with monkeypatch.context() as patched:
        patched.setattr(layout.tf.config, "get_visible_devices", lambda kind: [kind])
        assert layout.with_layout(options_class()).layout == "packed"
        divided = options_class(strategy="mirrored", logical_devices=2)  # leaves GPUs alone
        assert layout.with_layout(divided).layout == on_cpu
        assert layout.with_layout(options_class(layout="buckets")).layout == "buckets"


@pytest.mark.parametrize("recorded", ["buckets", "packed"])
def test_a_resumed_run_keeps_its_layout_on_any_device(tmp_path, a_gpu, recorded):
    (tmp_path / "options.yaml").write_text(f"layout: {recorded}\n")
    options = ClassifierOptions(output_dir=tmp_path)
    assert layout.with_layout(options).layout == "packed"
    resumed = dataclasses.replace(options, resume=True)
    assert layout.with_layout(resumed).layout == recorded


TASKS = ["classification", "entailment", "instruction", "text"]


@pytest.fixture(scope="module", params=TASKS)
def prepared(request, tmp_path_factory):
    """A task's sample data, and the options that its train.py has by default."""
    directory = tmp_path_factory.mktemp(request.param)
    script = import_module(f"{request.param}_tuning.prep_dataset")
    flags = ["--dataset", "sample"]
    if request.param == "instruction":
        flags += ["--seq_len", "128"]  # more rows, which have more and fewer targets
    if request.param == "text":
        text = directory / "text.txt"
        text.write_text("The tide comes in, and the tide goes out again. " * 3000)
        flags = ["--train_file", str(text), "--seq_len", "256"]
    assert script.main([*flags, "--output_dir", str(directory / "data")]) == 0
    metadata = read_metadata(directory / "data", request.param)
    records = [read_records(directory / "data", metadata, name) for name in ("train", "validation")]
    options = import_module(f"{request.param}_tuning.train").Options()
    return metadata, records, options


def shapes_of(source, epochs):
    """The distinct shapes of batches to train on, and of those to evaluate."""
    trained = [batch for epoch in range(epochs) for batch in source.epoch(0, epoch)]
    return [
        {(batch.inputs["token_ids"].shape, batch.targets.shape) for batch in batches}
        for batches in (trained, source.in_order())
    ]


def batches_of(split, metadata, options):
    """As the task's train.py has them, on one device."""
    if metadata.label_names is None:
        return layout.language_model_batches(split, metadata, options)
    return layout.classifier_batches(split, options, parts=1)


def test_a_default_run_on_a_gpu_has_two_shapes_to_train_and_two_to_evaluate(prepared, a_gpu):
    metadata, records, options = prepared
    options = layout.with_layout(options)
    train, validation = (batches_of(split, metadata, options) for split in records)
    assert 1 <= len(shapes_of(train, options.epochs)[0]) <= 2
    assert 1 <= len(shapes_of(validation, 0)[1]) <= 2
    if metadata.label_names is None:
        tested = layout.evaluation_batches(records[1], 8, metadata.seq_len)
        assert 1 <= len(shapes_of(tested, 0)[1]) <= 2


def test_each_layout_has_its_batches(prepared):
    metadata, records, options = prepared
    packed = PackedSource if metadata.label_names is None else PackedExamples
    for name, kind in (("buckets", BatchSource), ("packed", packed)):
        chosen = dataclasses.replace(options, layout=name)
        assert type(batches_of(records[0], metadata, chosen)) is kind


@pytest.mark.slow
def test_a_packed_run_that_was_killed_inside_an_epoch_goes_on_as_if_it_had_not_been(tmp_path):
    whole = make_tuner(tmp_path / "whole", source=PackedExamples)
    whole.fit()
    killed_run(tmp_path / "killed", "steps", "train", 12, source=PackedExamples)
    tuner = make_tuner(tmp_path / "killed", source=PackedExamples)
    tuner.fit(resume=True)
    assert tuner.train.shapes[0].rows < OPTIONS.batch_size
    assert_same_run(whole, tuner)


def test_a_packed_run_of_a_version_with_other_updates_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(PackedExamples, "divided", None)
        killed_run(tmp_path, "steps", "train", 5, source=PackedExamples)
    tuner = make_tuner(tmp_path, source=PackedExamples)
    with pytest.raises(UserError, match="earlier version, which divided the examples into other"):
        tuner.fit(resume=True)


def test_a_run_in_buckets_is_described_as_earlier_versions_did(tmp_path):
    assert checkpoint.UPDATES not in make_tuner(tmp_path).store.run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Prepared data, and a base model of one layer."""
    home = tmp_path_factory.mktemp("layout")
    return with_sample_and_base(home)


def run(home, name, *flags):
    """Trains in home/name with flags that keep it short."""
    paths = ["--dataset_dir", home / "data", "--pretrained", home / "base"]
    short = ["--epochs", 2, "--batch_size", 8, "--output_dir", home / name]
    return [str(flag) for flag in (*paths, *short, *flags)]


@pytest.mark.slow
def test_the_chosen_layout_is_recorded_and_a_resumed_run_goes_on_in_it(home, capsys):
    assert train.main(run(home, "chosen")) == 0
    assert yaml.safe_load((home / "chosen" / "options.yaml").read_text())["layout"] == "buckets"
    assert train.main(run(home, "packed", "--layout", "packed")) == 0
    options = home / "packed" / "options.yaml"
    assert yaml.safe_load(options.read_text())["layout"] == "packed"
    before = metrics(home / "packed")
    assert before != metrics(home / "chosen")
    assert train.main(run(home, "packed", "--resume")) == 0
    assert metrics(home / "packed") == before
    line = refused(train.main, capsys, *run(home, "packed", "--resume", "--layout", "buckets"))
    assert "was started with --layout packed, not buckets" in line


@pytest.mark.slow
def test_a_run_of_a_version_without_layouts_is_refused_by_name(home, capsys):
    assert train.main(run(home, "old")) == 0
    options = home / "old" / "options.yaml"
    options.write_text(options.read_text().replace("layout: buckets\n", "packing: true\n"))
    line = refused(train.main, capsys, *run(home, "old", "--resume"))
    assert "options.yaml lacks layout: it is damaged or of an earlier version" in line


def test_both_layouts_validate_to_the_same_figures(tmp_path):
    """From the same weights, before any training."""
    found = [
        tuner.evaluate(tuner.validation)
        for tuner in (
            make_tuner(tmp_path / source.__name__, source=source)
            for source in (BatchSource, PackedExamples)
        )
    ]
    np.testing.assert_allclose(list(found[0].values()), list(found[1].values()), rtol=1e-5)

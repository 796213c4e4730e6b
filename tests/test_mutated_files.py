"""Whatever stands in a small file, reading it ends well or in one line: never a traceback.

Every field of the five files that others may have touched gets values of other kinds, and whole
files are put in their place that are deep, long, or no files at all.
"""

import json
import os
import random

import pytest
import yaml
from hostile import within
from hostile_content import ANYTHING, WHOLE, changed_json, places_of
from lora_models import SMALL, small_model
from prepared_sets import write

from gpt2_tuning import schema
from gpt2_tuning.data import metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters, classifier_head, directory, peft_config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs import run_files, settings
from gpt2_tuning.training.run_directory import as_settings

SEED, MUTANTS, OF_YAML = 20, 150, 50
"""So many of each file, drawn from all; YAML takes longest to read."""
LORA = {"rank": 2, "alpha": 4, "targets": ["attn.c_attn", "mlp.c_proj"]}


def read_metadata(place):
    found = metadata.read_metadata(place, "classification")
    assert found.label_counts("train")[0] + found.seq_len + found.split_seed >= 0
    assert found.dataset["name"] + found.dataset["source"] is not None
    read_records(place, found, "test")


def read_options(place):
    found = settings.read_settings(place)
    assert settings.base_of_run(place).strip() is not None
    assert os.path.join(found.get("dataset_dir") or "x", "y")
    assert (found.get("epochs", 1) + found.get("seeds", 1)) * found.get("lora_alpha", 1.0) != ""
    assert found.get("monitor", "val_loss").startswith("val")
    assert " ".join(found.get("lora_targets", ["x"])) is not None
    run_files.settings_of_run(place)


def read_config(place):
    checkpoint = directory.read_checkpoint(place)
    assert checkpoint.config.decoder.parameters < 10**12
    classifier_head.label_names(checkpoint)


def read_adapter(place):
    lora, extra = adapters.read_adapter_config(place)
    updates = lora.updates_in(SMALL)
    assert all(update.scaling > 0 for block in updates for update in block.values())
    assert extra.base_name is None or extra.base_name.strip() is not None


READERS = {
    "metadata.json": read_metadata,
    "options.yaml": read_options,
    "config.json": read_config,
    "model.safetensors.index.json": read_config,
    "adapter_config.json": read_adapter,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A directory with all five files, each beside what belongs to it."""
    place = tmp_path_factory.mktemp("originals") / "all"
    write(place)
    model = small_model(GPT2Classifier, SMALL, LORA, label_names=["no", "yes"])
    for part, save in (("adapter", model.save_adapter), ("model", model.save_pretrained)):
        save(place.parent / part)
        for path in (place.parent / part).iterdir():
            path.rename(place / path.name)
    (place / "model.safetensors").rename(place / "all.safetensors")
    weight_map = dict.fromkeys(["wte.weight", "h.0.ln_1.bias", "score.weight"], "all.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    (place / "options.yaml").write_text(yaml.safe_dump(as_settings(ClassifierOptions())))
    return place


@pytest.fixture(params=READERS)
def mutated(request, originals):
    """A file, and its reader; afterwards it is as it was."""
    path = originals / request.param
    text = path.read_text()
    READERS[request.param](originals)  # or no mutant shows anything
    with within(120):
        yield path, READERS[request.param]
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(text)


def mutants(path):
    """The file's text with a value that is another, or gone, in one place each."""
    content = yaml.safe_load(path.read_text())
    if path.name == "adapter_config.json":
        content |= dict.fromkeys(peft_config.FIELDS.keys() - content.keys())
    every = [(place, value) for place in places_of(content) for value in [*ANYTHING, None]]
    number = OF_YAML if path.suffix == ".yaml" else MUTANTS
    for place, value in random.Random(SEED).sample(every, number):
        yield changed_json(content, place, value)


def outcome(place, read):
    """How reading ends: "" where it ends well, else the line that is said."""
    said = ""
    try:
        read(place)
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 3000
    return said


def outcomes(path, read):
    """All that is said of a file's mutants."""
    said = set()
    for text in mutants(path):
        path.write_text(text)
        said.add(outcome(path.parent, read))
    return said


def test_a_field_with_any_value_is_read_or_refused_in_a_line(mutated):
    assert len(outcomes(*mutated)) > 8


def test_without_the_tables_the_same_mutants_end_in_tracebacks(mutated, monkeypatch):
    for module in (schema, directory, metadata):
        monkeypatch.setattr(module, "wrong_field", lambda *_: None)
    with pytest.raises((TypeError, KeyError, AttributeError, OverflowError, AssertionError)):
        outcomes(*mutated)


@pytest.mark.parametrize("name", WHOLE)
def test_another_content_is_refused_in_a_line(mutated, name):
    path, read = mutated
    path.write_bytes(WHOLE[name])
    assert str(path.parent) in outcome(path.parent, read)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "missing"])
def test_what_is_no_file_is_refused_before_it_is_opened(mutated, kind):
    path, read = mutated
    path.unlink()
    make = {
        "pipe": os.mkfifo,
        "directory": os.mkdir,
        "device": lambda p: os.symlink("/dev/zero", p),
    }
    make.get(kind, str)(path)
    assert str(path.parent) in outcome(path.parent, read)

"""What a run leaves is known by its sums: nothing changed, missing or foreign is loaded for it."""

import json
import shutil

import pytest
from lora_models import SMALL, small_model, unchanged, values

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.runs.tuned_model import load_tuned, save_tuned
from gpt2_tuning.training.base_model import keep_random_base

NAMES = ["no", "maybe", "yes"]
LORA = {"rank": 2, "alpha": 4}
RANDOM = TrainOptions(pretrained="none")
ADAPTER, MODEL = "adapter/adapter_model.safetensors", "model/model.safetensors"
FILES = {
    "full": [MODEL, "model/config.json"],
    "lora": [ADAPTER, "adapter/adapter_config.json", "base/model.safetensors", "base/config.json"],
}


def make_run(run_dir, kind, seed=0):
    """What a run of this kind, on random weights, leaves of its model."""
    lora = LORA if kind == "lora" else None
    model = small_model(GPT2Classifier, SMALL, lora, seed, label_names=NAMES)
    run_dir.mkdir(exist_ok=True)
    keep_random_base(model, RANDOM, run_dir)
    save_tuned(model, run_dir)
    return model


def load(run_dir, label_names=NAMES):
    return load_tuned(GPT2Classifier, run_dir, label_names=label_names)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", FILES)
def test_an_untouched_run_loads_and_nothing_is_said(tmp_path, capsys, kind):
    model = make_run(tmp_path, kind)
    recorded = json.loads((tmp_path / "weights.json").read_text())
    assert sorted(recorded["sha256"]) == sorted(FILES[kind])
    assert unchanged(load(tmp_path), values(model))
    assert capsys.readouterr().err == ""


DAMAGE = {
    "changed": (flip, "was changed since the run wrote it"),
    "removed": (lambda path: path.unlink(), "is missing, which weights.json has"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FILES for name in FILES[kind]])
def test_a_file_that_is_not_as_the_run_wrote_it_is_named(tmp_path, kind, name, damage):
    make_run(tmp_path, kind)
    change, message = DAMAGE[damage]
    change(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name} ")
    assert "--resume" in str(caught.value)


def test_another_runs_model_is_not_taken_for_an_adapters(tmp_path):
    """A model/ put into a run of an adapter would be loaded in its place."""
    make_run(tmp_path / "full", "full", seed=1)
    make_run(tmp_path / "lora", "lora")
    shutil.copytree(tmp_path / "full" / "model", tmp_path / "lora" / "model")
    with pytest.raises(UserError, match=r"model/config\.json is not in weights\.json"):
        load(tmp_path / "lora")


@pytest.mark.parametrize("kind", FILES)
def test_a_run_without_record_is_loaded_with_one_line(tmp_path, capsys, kind):
    model = make_run(tmp_path, kind)
    (tmp_path / "weights.json").unlink()
    assert unchanged(load(tmp_path), values(model))
    said = capsys.readouterr().err
    assert said.startswith(f"note: {tmp_path} has no weights.json")
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": [1]}', '{"sha256": {"a": 1}}'])
def test_a_damaged_record_is_an_error_until_the_run_is_saved_again(tmp_path, text):
    model = make_run(tmp_path, "full")
    (tmp_path / "weights.json").write_text(text)
    with pytest.raises(UserError, match=r"weights\.json"):
        load(tmp_path)
    save_tuned(model, tmp_path)
    assert unchanged(load(tmp_path), values(model))


@pytest.mark.parametrize("damage", ["changed", "unrecorded", "missing", "record damaged"])
def test_a_resumed_runs_base_is_written_again_unless_it_is_as_recorded(tmp_path, damage):
    model = make_run(tmp_path, "lora")
    path = tmp_path / "base" / "model.safetensors"
    written = path.read_bytes(), (tmp_path / "weights.json").read_bytes()
    times = path.stat().st_mtime_ns
    keep_random_base(model, RANDOM, tmp_path)
    assert path.stat().st_mtime_ns == times
    if damage == "changed":
        flip(path)
    elif damage == "missing":
        path.unlink()
    else:
        (tmp_path / "weights.json").write_text('{"sha256": {}}' if damage == "unrecorded" else "")
    keep_random_base(model, RANDOM, tmp_path)
    save_tuned(model, tmp_path)
    assert (path.read_bytes(), (tmp_path / "weights.json").read_bytes()) == written


# --- files that disagree ---------------------------------------------------------------------


def test_a_model_whose_classes_are_not_the_metadatas_is_refused_by_name(tmp_path):
    """By name even without a record, and never matched again: the two cannot both be the run's."""
    make_run(tmp_path, "full")
    (tmp_path / "weights.json").unlink()
    for names in (["yes", "no", "maybe"], ["no", "yes"], ["a", "b", "c"]):
        with pytest.raises(UserError) as caught:
            load(tmp_path, names)
        assert f"{tmp_path / 'model' / 'config.json'} has the classes no, maybe, yes" in str(
            caught.value
        )
        assert f"{tmp_path / 'metadata.json'} has {', '.join(names)}" in str(caught.value)


def test_an_adapter_whose_classes_are_not_the_metadatas_is_refused_by_name(tmp_path):
    make_run(tmp_path, "lora")
    with pytest.raises(UserError) as caught:
        load(tmp_path, ["yes", "no", "maybe"])
    assert f"{tmp_path / ADAPTER} has the classes no, maybe, yes" in str(caught.value)
    assert f"{tmp_path / 'metadata.json'} has yes, no, maybe" in str(caught.value)


def test_the_old_head_of_an_adapters_base_is_not_spoken_of(tmp_path, capsys):
    """The adapter brings the head; what the base's classes were is then of no interest."""
    bases = tmp_path / "bases"
    small_model(GPT2Classifier, SMALL, label_names=["a", "b"]).save_pretrained(bases)
    lora = GPT2Classifier.from_pretrained(bases, lora=LORA, label_names=NAMES)
    assert "a new head begins at random" in capsys.readouterr().err
    save_tuned(lora, tmp_path)
    (tmp_path / "options.yaml").write_text(f"pretrained: {bases}\n")
    assert unchanged(load(tmp_path), values(lora))
    assert capsys.readouterr().err == ""

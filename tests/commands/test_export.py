"""A run is exported for transformers and PEFT, its card with it; what cannot be is one line."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from exported_runs import write_runs
from script_runs import listing, refused
from test_rooms import arrows

from gpt2_tuning.__main__ import main
from gpt2_tuning.commands import export as command
from gpt2_tuning.commands.export_card import hub_base
from gpt2_tuning.commands.export_runs import finished
from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.inference.classification import classify_text
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

TOKENIZER = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    write_runs(directory)
    return directory


def export(*words):
    return main(["export", *map(str, words)])


def head(directory):
    """The YAML head of a card, and the rest."""
    _, fields, body = (directory / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(fields), body


def test_hf_is_the_merged_model_with_its_tokenizer_and_card(home, tmp_path):
    out = tmp_path / "mood"
    assert export(home / "runs" / "mood", "--to", "hf", "--output", out) == 0
    own = ["README.md", "config.json", "curves.png", "model.safetensors"]
    assert listing(out) == sorted([*own, *TOKENIZER])
    texts = ["i feel fine", "what a day this was"]
    run = finished(home / "runs" / "mood").model()
    assert isinstance(run, Classifier)
    merged = GPT2Classifier.from_pretrained(out)
    for one, other in zip(classify_text(run, texts), classify_text(merged, texts), strict=True):
        assert list(one.probabilities) == list(other.probabilities)
        np.testing.assert_allclose(
            list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5
        )
    assert isinstance(read_tokenizer(out), GPT2Tokenizer)


def test_a_language_model_has_its_end_and_pad_ids_and_its_chat_template(home, tmp_path):
    out = tmp_path / "talk"
    assert export(home / "runs" / "talk", "--to", "hf", "--output", out) == 0
    ids = json.loads((out / "generation_config.json").read_bytes())
    assert ids == {"eos_token_id": 50256, "pad_token_id": 50256}
    metadata = json.loads((home / "runs" / "talk" / "metadata.json").read_bytes())
    assert (out / "chat_template.jinja").read_text() == metadata["template"]["text"]
    # Else transformers would take the end of a turn for letters.
    assert "split_special_tokens" not in json.loads((out / "tokenizer_config.json").read_bytes())
    assert export(home / "runs" / "follow", "--to", "hf", "--output", tmp_path / "follow") == 0
    assert "chat_template.jinja" not in listing(tmp_path / "follow")


def test_an_adapter_is_that_of_the_run_to_the_byte(home, tmp_path):
    out, kept = tmp_path / "adapter", home / "runs" / "mood" / "adapter"
    assert export(home / "runs" / "mood", "--to", "adapter", "--output", out) == 0
    names = ["adapter_config.json", "adapter_model.safetensors"]
    assert listing(out) == sorted([*names, "README.md", "curves.png"])
    for name in names:
        assert (out / name).read_bytes() == (kept / name).read_bytes()
    assert head(out)[0]["library_name"] == "peft"


def test_a_card_is_the_runs_own_with_a_head_and_another_use_and_no_paths(home, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(home / "runs" / "mood", run)
    (run / "test.json").write_text('{"accuracy": 0.75, "macro_f1": 0.5, "examples": 4}')
    content = json.loads((run / "metadata.json").read_bytes())
    content["dataset"] |= {"name": "dair-ai/emotion, split", "source": "hub"}
    (run / "metadata.json").write_text(json.dumps(content))
    assert export(run, "--to", "hf", "--output", out) == 0
    fields, body = head(out)
    assert fields["pipeline_tag"] == "text-classification"
    assert fields["library_name"] == "transformers"
    assert fields["datasets"] == ["dair-ai/emotion"]
    assert "gpt2-tuning" in fields["tags"]
    assert "base_model" not in fields  # a directory of this machine
    metrics = fields["model-index"][0]["results"][0]["metrics"]
    assert [one["value"] for one in metrics] == [0.75, 0.5]
    assert body.strip().startswith("# Text classifier")
    assert "curves.png" in body
    assert "lost.png" not in body
    assert 'pipeline("text-classification", "out")' in body
    assert "epochs: 3" in body
    assert "/home/ada" not in body
    assert str(home) not in body


def test_a_base_of_the_hub_is_named(home):
    run = finished(home / "runs" / "mood")
    for pretrained, name in (
        ("gpt2", "openai-community/gpt2"), ("124M", "openai-community/gpt2"),
        ("ada/mine", "ada/mine"), ("none", None), (str(home), None),
    ):  # fmt: skip
        run.settings["pretrained"] = pretrained
        assert hub_base(run) == name


def test_an_earlier_export_is_replaced_and_nothing_else(home, tmp_path, capsys):
    out, run = tmp_path / "out", home / "runs" / "mood"
    flags = [run, "--output", out]
    assert export(*flags, "--to", "hf") == 0
    assert export(*flags, "--to", "adapter") == 0
    assert "model.safetensors" not in listing(out)
    (out / "notes.txt").write_text("mine")
    line = refused(main, capsys, "export", *flags, "--to", "hf")
    assert "notes.txt, which would be removed" in line
    assert "adapter_model.safetensors" in listing(out)
    theirs = tmp_path / "theirs"
    shutil.copytree(home / "base", theirs)  # a model, but none that an export wrote
    line = refused(main, capsys, "export", run, "--to", "hf", "--output", theirs)
    assert "config.json, which would be removed" in line
    assert listing(tmp_path) == ["out", "theirs"]


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(home, tmp_path, capsys):
    run, out = home / "runs" / "mood", tmp_path / "out"
    unfinished, changed = tmp_path / "unfinished", tmp_path / "changed"
    shutil.copytree(run, unfinished, ignore=shutil.ignore_patterns("adapter", "weights.json"))
    shutil.copytree(run, changed)
    weights = changed / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "seeds.json").write_text("{}")
    (tmp_path / "file").write_text("")
    to = ["--to", "hf", "--output", out]
    cases = [
        ([], "--to must be given"),
        (to, "export needs a run: export RUN --to hf"),
        ([run, "--to", "hf"], "--output must be given"),
        ([run, "--to", "onnx", "--output", out], "--to must be one of hf, adapter, savedmodel"),
        ([tmp_path / "gone", *to], f"run {tmp_path / 'gone'} is not there"),
        ([tmp_path / "file", *to], "is a file, not the directory of a run"),
        ([home / "base", *to], "holds the weights of a model, not a run"),
        ([home / "data" / "classification", *to], "holds prepared data, not a run"),
        ([run / "adapter", *to], f"is a part of a run: give {run}"),
        ([tmp_path / "seeds", *to], "holds a run for each seed"),
        ([unfinished, *to], "has no tuned model: its training has not finished"),
        ([changed, *to], "was changed since the run wrote it"),
        ([changed, "--to", "adapter", "--output", out], "was changed since the run wrote it"),
        ([home / "runs" / "talk", "--to", "adapter", "--output", out], "--to hf writes it"),
        ([run, run, *to], "--to hf is of one run"),
        ([run, *to, "--max_new_tokens", 3], "--max_new_tokens needs --to savedmodel"),
        (
            [run, "--to", "savedmodel", "--output", out, "--max_new_tokens", 3],
            "--max_new_tokens needs a run that writes",
        ),
        ([run, *to, "--private"], "--private needs --push NAME"),
        ([run, *to, "--push", "a/b/c"], "--push a/b/c is no name of a repository"),
    ]  # fmt: skip
    for words, message in cases:
        assert message in refused(main, capsys, "export", *words), words
        assert not out.exists()
    assert listing(tmp_path) == ["changed", "file", "seeds", "unfinished"]


def test_runs_before_the_flags_are_runs(monkeypatch):
    given: list[command.Options] = []
    monkeypatch.setattr(command, "export", given.append)
    flags = ["--to", "savedmodel", "--output", "out"]
    assert export("a", "b", *flags, "--run", "c") == 0
    assert [str(path) for path in given[0].run] == ["a", "b", "c"]


def test_a_language_models_export_is_the_model_of_its_run(home, tmp_path):
    out = tmp_path / "follow"
    assert export(home / "runs" / "follow", "--to", "hf", "--output", out) == 0
    run = finished(home / "runs" / "follow").model()
    merged = GPT2LanguageModel.from_pretrained(out)
    inputs = {"token_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones([1, 3], int)}
    np.testing.assert_allclose(run(inputs), merged(inputs), atol=1e-4)


def test_a_graph_labels_texts_as_its_run_does(home, tmp_path):
    out, run = tmp_path / "graph", home / "runs" / "mood"
    assert export(run, "--to", "savedmodel", "--output", out) == 0
    assert listing(out) == [
        "README.md", "assets", "curves.png", "fingerprint.pb", "saved_model.pb", "variables",
    ]  # fmt: skip
    assert "library_name" not in head(out)[0]
    assert 'model.signatures["mood"](text=tf.constant(["..."]))' in head(out)[1]
    model = finished(run).model()
    assert isinstance(model, Classifier)
    texts = ["i feel fine", "it's <|endoftext|> 漢字", "  don't\n\n you?  "]
    found = tf.saved_model.load(str(out)).signatures["mood"](text=tf.constant(texts))
    wanted = [list(one.probabilities.values()) for one in classify_text(model, texts)]
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    assert export(run, "--to", "savedmodel", "--output", out) == 0  # in the place of the first


def test_nothing_but_the_command_imports_what_exports():
    parts = {"inference.saved_model", "inference.signatures", "inference.graph_prompts"}
    parts |= {"data.graph_tokenizer"}
    into = {module for module, other in arrows() if other in parts} - parts
    assert into == {"commands.export_files"}

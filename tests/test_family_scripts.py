"""The scripts on a base of another family than GPT-2, as a user runs them."""

import json

import pytest
import yaml
from script_runs import refused

import classification_tuning.prep_dataset
import classification_tuning.test
import classification_tuning.train
import text_tuning.prep_dataset
import text_tuning.test
import text_tuning.train

TINY = ["--family", "llama", "--model_size", "tiny", "--pretrained", "none", "--max_updates", "2"]


def run(main, *flags):
    return main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Prepared data of two tasks, and a LoRA run of a classifier on a random Llama."""
    home = tmp_path_factory.mktemp("families")
    (home / "text.txt").write_text("The tide comes in and the tide goes out again. " * 40)
    data = ["--train_file", home / "text.txt", "--output_dir", home / "text", "--seq_len", 32]
    assert run(text_tuning.prep_dataset.main, *data) == 0
    data = ["--dataset", "sample", "--limit", 40, "--output_dir", home / "classes"]
    assert run(classification_tuning.prep_dataset.main, *data) == 0
    assert classify(home, "run", *TINY, "--lora_rank", 4) == 0
    return home


def classify(home, name, *flags):
    paths = ["--dataset_dir", home / "classes", "--output_dir", home / name]
    return run(classification_tuning.train.main, *paths, *flags)


def test_a_lora_run_is_rebuilt_from_its_directory_alone(home, capsys):
    options = yaml.safe_load((home / "run" / "options.yaml").read_text())
    assert (options["family"], options["lora_targets"]) == ("llama", ["q_proj", "v_proj"])
    base = json.loads((home / "run" / "base" / "config.json").read_text())
    assert base["model_type"] == "llama"
    assert "A Llama tuned with gpt2-tuning" in (home / "run" / "README.md").read_text()
    flags = ["--run_dir", home / "run", "--text", "i am delighted"]
    assert run(classification_tuning.test.main, *flags) == 0
    assert "i am delighted" in capsys.readouterr().out


def test_a_directory_says_its_family_and_no_other_is_taken(home, capsys):
    base = ["--pretrained", home / "run" / "base", "--max_updates", 1, "--lora_rank", 4]
    assert classify(home, "other", *base, "--family", "qwen2") == 2
    assert "is of the family llama, so leave --family out" in refused(capsys)
    assert classify(home, "other", *base, "--lora_targets", "attn.c_attn") == 2
    assert "--lora_targets: llama has no LoRA target 'attn.c_attn'" in refused(capsys)
    assert not (home / "other").exists()
    assert classify(home, "other", *base, "--lora_targets", "all-linear") == 0
    options = yaml.safe_load((home / "other" / "options.yaml").read_text())
    assert options["family"] == "llama"
    assert options["lora_targets"][-1] == "down_proj"


def test_a_base_of_an_unknown_family_is_refused_by_its_name(home, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert classify(home, "bert", "--pretrained", tmp_path) == 2
    assert "has model_type='bert'; only gpt2, gpt_neo, llama" in refused(capsys)


def test_a_language_model_of_another_family_is_tuned_and_writes_on(home, capsys):
    paths = ["--dataset_dir", home / "text", "--output_dir", home / "writer"]
    assert run(text_tuning.train.main, *paths, *TINY, "--lora_rank", 0) == 0
    flags = ["--run_dir", home / "writer", "--prompt", "The tide", "--max_new_tokens", 4]
    assert run(text_tuning.test.main, *flags) == 0
    assert "The tide" in capsys.readouterr().out

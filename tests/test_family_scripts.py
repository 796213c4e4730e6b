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
from gpt2_tuning.models.language_model import LanguageModel

SMALL = {
    "model_type": "qwen3",
    **{"vocab_size": 50257, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    **{"max_position_embeddings": 64, "tie_word_embeddings": False},
}
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


def places(home, name):
    return ["--dataset_dir", home / "classes", "--output_dir", home / name]


def classify(home, name, *flags):
    return run(classification_tuning.train.main, *places(home, name), *flags)


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
    train = classification_tuning.train.main
    base = ["--pretrained", home / "run" / "base", "--max_updates", 1, "--lora_rank", 4]
    flags = [*places(home, "other"), *base]
    said = refused(train, capsys, *flags, "--family", "qwen2")
    assert "is of the family llama, so leave --family out" in said
    said = refused(train, capsys, *flags, "--lora_targets", "attn.c_attn")
    assert "--lora_targets: llama has no LoRA target 'attn.c_attn'" in said
    assert not (home / "other").exists()


def test_targets_are_those_of_the_family_that_the_data_is_for(home, tmp_path, capsys):
    base = ["--base", home / "run" / "base", "--dataset", "sample", "--limit", 40]
    assert (
        run(classification_tuning.prep_dataset.main, *base, "--output_dir", tmp_path / "set") == 0
    )
    flags = ["--dataset_dir", tmp_path / "set", "--output_dir", tmp_path / "run"]
    flags += ["--max_updates", 1, "--lora_rank", 2]
    train = classification_tuning.train.main
    for wrong in (["attn.c_attn"], ["k_proj", "attn.c_attn"], ["k_proj", "no_such"]):
        said = refused(train, capsys, *flags, "--lora_targets", *wrong)
        assert f"--lora_targets: llama has no LoRA target '{wrong[-1]}'" in said
        assert not (tmp_path / "run").exists()
    assert run(train, *flags, "--lora_targets", "k_proj", "o_proj") == 0
    options = yaml.safe_load((tmp_path / "run" / "options.yaml").read_text())
    assert (options["family"], options["lora_targets"]) == ("llama", ["k_proj", "o_proj"])


def test_a_family_alone_says_no_size(home, capsys):
    flags = [*places(home, "other"), "--family", "llama"]
    line = refused(classification_tuning.train.main, capsys, *flags)
    assert "--family llama needs --model_size, one of tiny, mini, 1B, 3B, 8B, or" in line
    assert not (home / "other").exists()


def test_a_base_of_an_unknown_family_is_refused_by_its_name(home, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    flags = [*places(home, "bert"), "--pretrained", tmp_path]
    said = refused(classification_tuning.train.main, capsys, *flags)
    assert "has model_type='bert'; only gpt2, gpt_neo," in said


def test_a_language_model_on_a_directory_is_tuned_and_writes_on(home, capsys):
    LanguageModel(SMALL).built_now().save_pretrained(home / "base")
    paths = ["--dataset_dir", home / "text", "--output_dir", home / "writer"]
    base = ["--pretrained", home / "base", "--max_updates", 2, "--lora_rank", 2]
    assert run(text_tuning.train.main, *paths, *base, "--lora_targets", "all-linear") == 0
    options = yaml.safe_load((home / "writer" / "options.yaml").read_text())
    assert (options["family"], options["lora_targets"][-1]) == ("qwen3", "down_proj")
    flags = ["--run_dir", home / "writer", "--prompt", "The tide", "--max_new_tokens", 2]
    assert run(text_tuning.test.main, *flags) == 0
    assert "The tide" in capsys.readouterr().out

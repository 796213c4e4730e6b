"""Runs that tune an adapter of each kind: what they leave is tried, shown and gone on from."""

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from script_runs import two_updates as run
from script_runs import with_sample_and_base

from classification_tuning import test
from gpt2_tuning.commands import adapters as command
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier

KINDS = {
    "dora": ["--use_dora", "--lora_layers", "0"],
    "pissa": ["--lora_init", "pissa", "--lora_targets", "mlp.c_fc"],
    "olora": ["--lora_init", "olora"],
    "whole": ["--lora_bias", "lora_only", "--modules_to_save", "wte,ln_f"],
    "biases": ["--lora_bias", "all"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return with_sample_and_base(tmp_path_factory.mktemp("home"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_each_kind_is_tried_shown_and_gone_on_from(home, kind, capsys):
    flags = ["--pretrained", home / "base", "--lora_rank", 2, *KINDS[kind]]
    assert run(home, kind, *flags, "--learning_rate", "0.1") == 0
    assert test.main(["--run_dir", str(home / kind), "--text", "fine"]) == 0
    assert command.main(["show", "--adapter", str(home / kind)]) == 0
    lora, extra = read_adapter_config(home / kind / "adapter")
    plain = GPT2Classifier.from_pretrained(home / "base", lora=lora, label_names=extra.label_names)
    plain.load_adapter(home / kind / "adapter")  # refused where the sum of the base is another
    again = f"{kind}-again"
    assert run(home, again, "--continue", home / kind, "--learning_rate", "1e-12") == 0
    before, after = (
        load_file(home / name / "adapter" / "adapter_model.safetensors") for name in (kind, again)
    )
    assert set(before) == set(after)
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-5)
    settings = yaml.safe_load((home / again / "options.yaml").read_text())
    assert settings["use_dora"] == (kind == "dora")
    assert settings["lora_layers"] == ("0" if kind == "dora" else "all")
    assert run(home, again, "--continue", home / kind, "--learning_rate", "1e-12", "--resume") == 0
    merged = ["merge", "--adapter", home / kind, "--output_dir", home / f"{kind}-merged"]
    assert command.main([str(argument) for argument in merged]) == 0

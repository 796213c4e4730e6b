"""Files of GPT-NeoX as they lie about: with buffers of old versions, and the head's own name."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel

FIELDS = {
    "model_type": "gpt_neox",
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1},
    "num_attention_heads": 2,
}


@pytest.fixture
def saved(tmp_path):
    """A language model with a head of its own, and its directory."""
    model = LanguageModel(known.config_of(FIELDS)).built_now()
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def rewrite(directory, change):
    arrays = load_file(directory / "model.safetensors")
    change(arrays)
    save_file(arrays, directory / "model.safetensors")


def test_buffers_of_old_files_are_no_weights(saved):
    model, directory = saved

    def add_buffers(arrays):
        at = "gpt_neox.layers.0.attention."
        arrays[f"{at}bias"] = np.tril(np.ones((1, 1, 64, 64), bool))
        arrays[f"{at}masked_bias"] = np.array(-1e4, np.float16)
        arrays[f"{at}rotary_emb.inv_freq"] = np.ones(2, np.float16)

    rewrite(directory, add_buffers)
    again = LanguageModel.from_pretrained(directory)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_head_has_its_own_name_and_no_prefix(saved, capsys):
    _, directory = saved
    arrays = load_file(directory / "model.safetensors")
    names = [name for name in arrays if not name.startswith("gpt_neox.")]
    assert names == ["embed_out.weight"]
    Classifier.from_pretrained(directory, num_classes=2)
    assert "embed_out.weight, a language model's head, is not used" in capsys.readouterr().err


def test_a_tied_model_refuses_a_file_with_another_head(saved):
    _, directory = saved
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**fields, "tie_word_embeddings": True}))
    with pytest.raises(UserError, match=r"embed_out\.weight differs from embed_in\.weight"):
        LanguageModel.from_pretrained(directory)


def test_another_familys_name_of_the_head_is_unexpected(saved):
    _, directory = saved
    rewrite(directory, lambda arrays: arrays.update({"lm_head.weight": np.ones((61, 32), "f")}))
    with pytest.raises(UserError, match=r"lm_head\.weight is unexpected"):
        LanguageModel.from_pretrained(directory)

"""Biases and whole modules as PEFT says them: what a base has none of, and what is not read."""

import json

import numpy as np
import pytest
from lora_models import SMALL, small_model
from safetensors.numpy import load_file, save_file

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import FAMILIES
from gpt2_tuning.families.llama import LlamaConfig
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.formats.mixed_adapters import mix
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.lora import check_useful

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LLAMA = LlamaConfig.from_size("tiny", vocab_size=97, num_hidden_layers=1)
GATED = ("llama", "mistral", "qwen3")
"""Families without a bias."""


def changed(directory, weights=None, **fields):
    """The adapter with other fields and further weights, as PEFT writes them."""
    read = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**read, **fields}))
    if weights:
        save_file({**load_file(directory / WEIGHTS), **weights}, directory / WEIGHTS)
    return directory


@pytest.mark.parametrize("family", GATED)
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_of_a_base_that_has_none_are_no_reason_to_refuse_an_adapter(family, bias, tmp_path):
    config = FAMILIES[family].config_of(
        {**FAMILIES[family].sizes["tiny"].to_dict(), "vocab_size": 97, "num_hidden_layers": 1}
    )
    plain = small_model(LanguageModel, config, {"rank": 2})
    plain.save_adapter(tmp_path / "peft")
    lora, _ = read_adapter_config(changed(tmp_path / "peft", bias=bias))
    assert lora.bias == bias
    model = small_model(LanguageModel, config, lora, dtype="bfloat16")
    assert model.own_weights() == {}
    model = small_model(LanguageModel, config, lora)
    model.load_adapter(tmp_path / "peft")
    model.save_adapter(tmp_path / "again")
    model.load_adapter(tmp_path / "peft", name="added")
    model.save_adapter(tmp_path / "added", name="added")
    mix([tmp_path / "peft"] * 2, [0.5, 0.5], tmp_path / "mixed", "cat")
    assert read_adapter_config(tmp_path / "mixed")[0].bias == bias
    for again in ("again", "added"):
        for name in (CONFIG, WEIGHTS):
            one, other = tmp_path / "peft" / name, tmp_path / again / name
            same = (json.loads(path.read_text()) for path in (one, other))
            assert next(same) == next(same) if name == CONFIG else equal(one, other)
    with pytest.raises(UserError, match=f"--lora_bias {bias}: the .*layers of this {family} have"):
        check_useful(lora, config)


def equal(one, other):
    """Whether two files have the same weights."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def test_a_name_that_hits_every_norm_is_said_in_the_users_words(tmp_path):
    small_model(LanguageModel, LLAMA, {"rank": 2}).save_adapter(tmp_path / "adapter")
    norms = ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm")
    weights = {f"base_model.model.model.{name}.weight": np.ones(128, "f4") for name in norms}
    changed(tmp_path / "adapter", weights, modules_to_save=["norm"])
    with pytest.raises(UserError) as caught:
        read_adapter_config(tmp_path / "adapter")
    assert str(caught.value) == (
        f"{tmp_path / 'adapter' / CONFIG}: modules_to_save names 'norm', which PEFT takes for "
        "layers.0.input_layernorm too: only embed_tokens, norm, lm_head and a classifier's score "
        "are read (model.norm names one of them alone); merge the adapter into its base with PEFT "
        "(merge_and_unload) and take that as the base"
    )
    one = {name: weight for name, weight in weights.items() if name.endswith("model.norm.weight")}
    small_model(LanguageModel, LLAMA, {"rank": 2}).save_adapter(tmp_path / "last")
    changed(tmp_path / "last", one, modules_to_save=["model.norm"])
    assert read_adapter_config(tmp_path / "last")[0].modules_to_save == ("norm",)


@pytest.mark.parametrize("module", ["ln_f", "transformer.ln_f"])
def test_a_module_whose_bias_is_tuned_twice_is_said_in_the_users_words(module, tmp_path):
    small_model(GPT2LanguageModel, SMALL, {"rank": 2, "bias": "all"}).save_adapter(tmp_path / "one")
    inner = "base_model.model.transformer.ln_f"
    names = ("modules_to_save.bias", "original_module.bias", "bias", "weight")
    weights = {f"{inner}.{name}": np.ones(32, "f4") for name in names}
    changed(tmp_path / "one", weights, modules_to_save=[module])
    with pytest.raises(UserError) as caught:
        read_adapter_config(tmp_path / "one")
    assert f"bias='all' and modules_to_save='{module}' both tune ln_f.bias" in str(caught.value)
    assert "merge the adapter into its base with PEFT" in str(caught.value)


def test_all_biases_go_with_modules_that_have_none(tmp_path):
    lora = {"rank": 2, "bias": "all", "modules_to_save": ["wpe", "lm_head"]}
    model = small_model(GPT2LanguageModel, SMALL, lora)
    model.save_adapter(tmp_path / "adapter")
    assert read_adapter_config(tmp_path / "adapter")[0] == model.lora

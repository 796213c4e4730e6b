"""Adapters of some blocks and layers only: as PEFT says it, and as it is written."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from lora_models import SMALL, batch, outputs, small_model
from safetensors.numpy import load_file, save_file

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import FAMILIES
from gpt2_tuning.families.llama import LlamaConfig
from gpt2_tuning.formats import peft_patterns
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.formats.mixed_adapters import mix
from gpt2_tuning.layer_names import blocks_of, text_of_blocks
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.language_model import LanguageModel

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LLAMA = LlamaConfig.from_size("tiny", vocab_size=97)
LORAS: dict[str, Any] = {
    "one block": {"layers": [1]},
    "without a layer": {"exclude": ["1.attn.c_attn"]},
    "a layer's own": {
        "rank_pattern": {"1.attn.c_proj": 2},
        "alpha_pattern": {"0.mlp.c_fc": 3},
    },
    "a layer's before its target's": {"rank_pattern": {"attn.c_proj": 3, "0.attn.c_proj": 2}},
}
COMMON: dict[str, Any] = {
    "rank": 4,
    "alpha": 8,
    "targets": ["attn.c_attn", "attn.c_proj", "mlp.c_fc"],
}


@pytest.mark.parametrize("name", LORAS)
def test_an_adapter_of_some_layers_comes_back_whole_and_by_name(name, tmp_path):
    lora = {**COMMON, **LORAS[name]}
    model, inputs = small_model(GPT2LanguageModel, SMALL, lora), batch(SMALL)
    wanted = outputs(model, inputs)
    model.save_adapter(tmp_path / "adapter")
    read, _ = read_adapter_config(tmp_path / "adapter")
    assert read.values("rank", 2) == LoRAConfig(**lora).values("rank", 2)
    assert read.values("alpha", 2) == LoRAConfig(**lora).values("alpha", 2)
    again = small_model(GPT2LanguageModel, SMALL, read, seed=0)
    plain = small_model(GPT2LanguageModel, SMALL)
    for layer in again.lora_layers().values():
        layer.lora_B.assign(0 * layer.lora_B)
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(again, inputs), wanted)
    plain.load_adapter(tmp_path / "adapter", name="own")
    np.testing.assert_allclose(outputs(plain, inputs), wanted, rtol=1e-4, atol=1e-5)
    assert model.merge() < 1e-4
    np.testing.assert_allclose(outputs(model, inputs), wanted, rtol=1e-3, atol=1e-4)


def test_blocks_that_are_named_hold_the_only_updates_and_learn_alone():
    model = small_model(GPT2LanguageModel, SMALL, {**COMMON, "layers": [1]})
    assert {name.split(".")[1] for name in model.lora_layers()} == {"1"}
    model.freeze_all_but_lora()
    assert len(model.trainable_weights) == 2 * len(COMMON["targets"])
    other = GPT2LanguageModel.from_config(model.get_config())
    assert other.lora == model.lora


def test_what_is_written_is_pefts_words(tmp_path):
    lora = {"targets": ["q_proj"], "layers": [1], "rank_pattern": {"1.q_proj": 2}, "rank": 4}
    model = LanguageModel(LLAMA, lora=lora).built_now()
    model.save_adapter(tmp_path / "adapter")
    fields = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert (fields["layers_to_transform"], fields["layers_pattern"]) == ([1], "layers")
    assert fields["rank_pattern"] == {"q_proj": 2}
    fields = peft_patterns.layer_fields(
        LoRAConfig(targets=("q_proj",), exclude=("1.q_proj",), alpha_pattern={"0.q_proj": 3}),
        FAMILIES["llama"],
        3,
    )
    assert fields["exclude_modules"] == ["layers.1.self_attn.q_proj"]
    assert fields["alpha_pattern"] == {"layers.0.self_attn.q_proj": 3}
    assert "layers_to_transform" not in fields


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        ({}, [0, 1, 12]),
        ({"layers_to_transform": 1}, [1]),
        ({"layers_to_transform": [12, 0]}, [0, 12]),
        ({"layers_to_transform": [0], "layers_pattern": "h"}, [0]),
        ({"layers_to_transform": [0], "layers_pattern": ["layers", "h"]}, [0]),
        ({"layers_to_transform": [0], "layers_pattern": ["layers"]}, []),
        ({"layers_to_transform": []}, [0, 1, 12]),
        ({"exclude_modules": ["h.1.attn.c_attn"]}, [0, 12]),
        ({"exclude_modules": r".*\.1.?\..*"}, [0]),
        ({"target_modules": ["transformer.h.1.attn.c_attn"], "layers_to_transform": [0]}, [1]),
    ],
)
def test_the_blocks_that_peft_means(fields, blocks):
    """As PEFT 0.21's check_target_module_exists answers."""
    names = [f"transformer.h.{block}.attn.c_attn" for block in (0, 1, 12)]
    hits = peft_patterns.targeted({"target_modules": ["c_attn"], **fields}, names)
    assert [block for block, hit in zip((0, 1, 12), hits, strict=True) if hit] == blocks


def test_adapters_of_other_layers_are_not_mixed(tmp_path):
    for name in ("one block", "without a layer", "a layer's own"):
        lora = {**COMMON, **LORAS[name]}
        small_model(GPT2LanguageModel, SMALL, lora).save_adapter(tmp_path / name)
    both = [tmp_path / "one block", tmp_path / "without a layer"]
    with pytest.raises(UserError, match=r"only adapter 2 of 1 and 2 adapts h\.0\.attn\.c_attn"):
        mix(both, [0.5, 0.5], tmp_path / "mixed", "cat")
    mix([tmp_path / "a layer's own"] * 2, [0.5, 0.5], tmp_path / "mixed", "cat")
    mixed, _ = read_adapter_config(tmp_path / "mixed")
    assert mixed.values("rank", 2)[1, "attn.c_proj"] == 4
    assert {update.scaling for block in mixed.updates_in(SMALL) for update in block.values()} == {1}


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"layers": [2]}, "LoRA is to adapt block 2; the model has 2, from 0 on"),
        ({"layers": [-1]}, "LoRA layers are blocks by number from 0, not -1"),
        ({"layers": [0, 0]}, "LoRA layers name a block twice"),
        ({"exclude": ["attn.c_attn"]}, "LoRA excludes single layers, such as 3.attn.c_attn, not"),
        ({"exclude": ["0.x"]}, "unknown LoRA target 'x'"),
        ({"exclude": ["0.mlp.c_proj"]}, "names 0.mlp.c_proj, which is not among the targets"),
        ({"rank_pattern": {"7.attn.c_attn": 2}}, "LoRA is to adapt block 7; the model has 2"),
        ({"targets": ["mlp.c_fc"], "exclude": ["0.mlp.c_fc", "1.mlp.c_fc"]}, "to adapt no layer"),
    ],
)
def test_layers_that_are_not_there_are_one_clear_line(lora, message):
    with pytest.raises(UserError) as caught:
        GPT2LanguageModel(SMALL, lora={**COMMON, **lora})
    assert message in str(caught.value)


def test_an_adapter_of_other_layers_than_the_models_is_refused(tmp_path):
    model = small_model(GPT2LanguageModel, SMALL, {**COMMON, "layers": [1]})
    model.save_adapter(tmp_path / "adapter")
    whole = small_model(GPT2LanguageModel, SMALL, COMMON)
    with pytest.raises(UserError, match=r"h\.0\.attn\.c_attn: only the model has an update of it"):
        whole.load_adapter(tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / WEIGHTS)
    further = {name.replace("h.1.", "h.5."): value for name, value in weights.items()}
    save_file(further, tmp_path / "adapter" / WEIGHTS)
    fields = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    fields["layers_to_transform"] = [5]
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(fields))
    with pytest.raises(UserError, match="LoRA is to adapt block 5; the model has 2"):
        whole.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("text", "blocks"),
    [("all", ()), ("3", (3,)), ("0,10-12", (0, 10, 11, 12)), ("5-4", None), ("1,1", None)]
    + [(text, None) for text in ("", "x", "-1", "1-", "1-2-3", "1,,2", "99999", "0x1")],
)
def test_blocks_in_words(text, blocks):
    assert blocks_of(text) == blocks
    if blocks:
        assert blocks_of(text_of_blocks(blocks)) == blocks


def test_the_last_blocks_may_be_those_that_are_left_out(tmp_path):
    """The weights' file does not say how many blocks the base has."""
    config = dataclasses.replace(SMALL, n_layer=3)
    model = small_model(GPT2LanguageModel, config, {**COMMON, "layers": [0, 1]})
    model.save_adapter(tmp_path / "adapter")
    lora, _ = read_adapter_config(tmp_path / "adapter")
    assert lora == model.lora
    again = small_model(GPT2LanguageModel, config, lora)
    again.load_adapter(tmp_path / "adapter")
    assert list(again.lora_layers()) == list(model.lora_layers())

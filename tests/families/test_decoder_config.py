"""A decoder's config is refused where no code computes it, and a family where nobody knows it."""

import dataclasses
import json
from typing import Any

import pytest

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.decoder_config import COMPUTED
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.families.rotary import Rotary
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.models.language_model import LanguageModel

DECODER = GPT2Config.from_size("tiny").decoder
BESIDE: dict[str, dict[str, Any]] = {
    "fused_by_head": {"fused": False, "biases": frozenset({"mlp.up"})},
}
"""What else is otherwise, for the option to be wrong."""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("norm", "batch"),
        ("place", "alibi"),
        ("mlp", "relu"),
        ("score_cap", 50.0),
        ("logit_cap", 30.0),
        ("norms_after", True),
        ("kv_heads", 1),
        ("windows", (256,)),
        ("windows", (0, 0)),
        ("biases", frozenset({"attention.query"})),
        ("rotary", Rotary(1e4)),
        ("fused_by_head", True),
    ],
)
def test_an_option_that_no_code_computes_is_named_with_what_is_supported(option, value):
    with pytest.raises(UserError, match=rf"gpt2: {option}=") as caught:
        dataclasses.replace(DECODER, **{option: value}, **BESIDE.get(option, {}))
    assert "\n" not in str(caught.value)
    assert "what is: " in str(caught.value)
    for supported in COMPUTED.get(option, ()):
        assert repr(supported) in str(caught.value)


def test_a_base_of_a_family_that_nobody_knows_is_named(tmp_path, small_config):
    GPT2Model(small_config).built_now().save_pretrained(tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    for wrong in ("bert", ["gpt2"], None):
        config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": wrong}))
        with pytest.raises(UserError, match=r"has model_type=.*; only gpt2, .* work"):
            LanguageModel.from_pretrained(tmp_path / "base")


def test_a_target_of_another_family_is_refused_with_those_of_this_one():
    family = known.FAMILIES["gpt2"]
    with pytest.raises(UserError, match=r"gpt2 has no LoRA target 'q_proj': choose among attn\.c_"):
        family.place_of("q_proj")


def test_every_lora_target_of_every_family_is_a_dense_layer_of_its_blocks():
    for family in known.FAMILIES.values():
        for size, config in family.sizes.items():
            updates = LoRAConfig(2, targets=("all-linear",)).updates_in(config)
            assert len(updates) == config.decoder.layers
            for of_block in updates:
                assert list(of_block) == list(config.decoder.dense), (family.name, size)
            assert set(family.usual_targets) <= set(family.lora_targets)
            assert set(family.parts) <= set(family.lora_targets)


def test_the_shape_of_each_weight_is_known_before_there_is_a_model(small_config):
    model = GPT2Model(small_config).built_now()
    shapes = {name: tuple(weight.shape) for name, weight in model.base_weights().items()}
    table = model.family.weights(small_config.decoder)
    assert {name: small_config.decoder.shape_of(path) for name, path, _ in table} == shapes


@pytest.mark.parametrize("size", ["tiny", "124M"])
def test_the_number_of_parameters_is_that_of_the_weights_in_the_table(size):
    config = known.config_of_size(size)
    names = [stored.name for stored in known.family_of(config).weights(config.decoder)]
    assert len(names) == len(set(names)) == 4 + 12 * config.decoder.layers
    assert config.decoder.parameters == {"tiny": 6_960_768, "124M": 124_439_808}[size]

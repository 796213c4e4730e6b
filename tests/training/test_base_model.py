"""A base that cannot take the data is refused before anything is trained."""

import dataclasses

import pytest
from prepared_sets import header

from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.base_model import make_model, with_family


def test_base_with_fewer_ids_or_positions_than_the_data_is_refused(small_config, tmp_path):
    GPT2Model(small_config).built_now().save_pretrained(tmp_path)
    options = TrainOptions(pretrained=str(tmp_path), precision="float32")
    for changes, message in (
        ({}, "the model knows only 97 tokens, not the 50,257 of the data's tokenizer"),
        ({"seq_len": 65}, "the data's seq_len 65 is above the model's 64"),
    ):
        with pytest.raises(UserError) as error:
            make_model(GPT2Classifier, options, header(**changes), label_names=["no", "yes"])
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lora_rank": 33}, "--lora_rank 33 is above the size of attn.c_attn, 32 x 96, so a lower"),
        ({"lora_bias": "all", "family": "llama"}, "--lora_bias all: the layers of this llama have"),
        (
            {"lora_bias": "lora_only", "family": "qwen2", "lora_targets": ("o_proj",)},
            "--lora_bias lora_only: the adapted layers of this qwen2 have no bias",
        ),
    ],
)
def test_flags_by_which_nothing_more_would_be_tuned_are_refused(
    small_config, tmp_path, flags, message
):
    if "family" in flags:
        flags = {"pretrained": "none", "model_size": "tiny", **flags}
    else:
        GPT2Model(small_config).built_now().save_pretrained(tmp_path)
        flags = {"pretrained": str(tmp_path), **flags}
    options = TrainOptions(precision="float32", **flags)
    with pytest.raises(UserError) as error:
        make_model(GPT2Classifier, options, header(), label_names=["no", "yes"])
    assert message in str(error.value)


def test_targets_that_stand_for_others_are_those_of_the_base():
    for family, targets, wanted in (
        ("llama", ("all-linear",), tuple(known.family_named("llama").lora_targets)),
        ("llama", (), ("q_proj", "v_proj")),
        ("gpt_neox", ("dense",), ("dense",)),
    ):
        flags = TrainOptions(pretrained="none", model_size="tiny", family=family)
        options = with_family(dataclasses.replace(flags, lora_targets=targets))
        assert options.lora_targets == wanted

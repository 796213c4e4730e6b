"""What a plan says: parameters as models have them, more memory for more work, flags that fit."""

import dataclasses
import re
from typing import get_args

import pytest

from gpt2_tuning import memory
from gpt2_tuning.commands import plan
from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.families.known import FAMILIES, with_vocabulary
from gpt2_tuning.families.llama import LlamaConfig
from gpt2_tuning.memory import Setting, memory_of
from gpt2_tuning.models.backbone import Backbone
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.options.training import TrainOptions

ASKED = Setting(GPT2Config.from_size("124M"), LoRAConfig(8), 8, 256)


LORA_TARGETS = tuple(FAMILIES["gpt2"].lora_targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_each_family(family):
    config = with_vocabulary(FAMILIES[family].sizes["tiny"], 64)
    lora = LoRAConfig(2, targets=tuple(FAMILIES[family].lora_targets))
    counts = Backbone(config, lora=lora).built_now().count_parameters()
    assert config.decoder.parameters == sum(counts["base"])
    assert memory.trained_parameters(Setting(config, lora, 1, 8)) == sum(counts["LoRA"])


def test_each_part_of_a_block_counts():
    """A head of its own, more heads of keys and values, and a wider MLP each take more."""
    config = LlamaConfig.from_size("tiny")
    asked = Setting(config, LoRAConfig(8, targets=("q_proj",)), 8, 256)
    for change in (
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 4},
        {"intermediate_size": 400},
    ):
        more = dataclasses.replace(asked, config=dataclasses.replace(config, **change))
        assert memory_of(more).total > memory_of(asked).total


@pytest.mark.parametrize("targets", [LORA_TARGETS, ("attn.c_attn", "mlp.c_proj")])
def test_parameters_are_those_of_the_model(small_config, targets):
    lora = LoRAConfig(2, targets=targets)
    model = GPT2Model(small_config, lora=lora).built_now()
    setting = Setting(small_config, lora, 1, 8)
    counts = model.count_parameters()
    assert small_config.decoder.parameters == sum(counts["base"])
    assert memory.trained_parameters(setting) == sum(counts["LoRA"])


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 9},
        {"length": 300},
        {"lora": None},
        {"lora": LoRAConfig(8, targets=LORA_TARGETS)},
        {"config": GPT2Config.from_size("355M")},
    ],
    ids=str,
)
def test_more_work_takes_more_memory(change):
    assert memory_of(dataclasses.replace(ASKED, **change)).total > memory_of(ASKED).total


@pytest.mark.parametrize(
    "change",
    [{"rematerialize": True}, {"precision": "bfloat16"}, {"rows": 4}],
    ids=str,
)
def test_what_saves_memory_saves_it(change):
    assert memory_of(dataclasses.replace(ASKED, **change)).total < memory_of(ASKED).total


def test_adafactor_saves_memory_in_full_tuning():
    full = dataclasses.replace(ASKED, lora=None)
    assert memory_of(dataclasses.replace(full, optimizer="adafactor")).total < memory_of(full).total


def test_the_flags_it_gives_are_train_s_and_fit(capsys):
    flags = ["--model_size", "355M", "--lora_rank", "0"]
    assert plan.main([*flags, "--memory", "16"]) == 0
    shown = capsys.readouterr().out
    given = re.findall(r"--(\w+)", shown.splitlines()[-1])
    assert "gradient_accumulation" in given
    assert set(given) <= {field.name for field in dataclasses.fields(TrainOptions)}
    (peak,) = (line for line in shown.splitlines() if " peak " in line)
    asked, found = map(float, re.findall(r"\d+\.\d+", peak))
    assert found <= 16 < asked


def test_what_fits_as_asked_needs_no_flag(capsys):
    assert plan.main(["--seq_len", "256", "--memory", "16"]) == 0
    assert "no further flag" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("card", "precision"), [("T4", "float16"), ("L4", "bfloat16"), ("H100", "bfloat16")]
)
def test_a_card_has_its_own_memory_and_the_precision_that_train_chooses(card, precision, capsys):
    assert plan.main(["--card", card]) == 0
    shown = capsys.readouterr().out
    assert f"as asked, {precision}, GB" in shown
    assert "runtime" not in shown
    assert "An estimate: of tensors alone" in shown
    size, left = map(
        float, re.findall(r"of (\d+) GiB, of which a run has about ([\d.]+) GB", shown)[0]
    )
    assert 0.8 * size < left < size * 2**30 / 1e9
    assert shown.rstrip().endswith("no further flag")


def test_a_gpu_by_its_size_is_no_process(capsys):
    assert plan.main(["--memory", "16", "--device", "gpu", "--precision", "float32"]) == 0
    gpu = capsys.readouterr().out
    assert plan.main(["--memory", "16"]) == 0
    process = capsys.readouterr().out
    assert "one GPU of 16 GB, of which a run has about 13." in gpu
    assert "--precision float32" in gpu.splitlines()[-1]  # which auto is not there
    assert "runtime" in process
    assert "An estimate: of the whole process" in process
    assert process.splitlines()[-1].startswith("Fits into 16 GB with:")


def test_cards_are_as_the_names_that_can_be_given():
    assert set(plan.CARDS) == set(get_args(plan.Card))


def test_what_fits_in_no_way_is_said(capsys):
    assert plan.main(["--model_size", "1.5B", "--memory", "2"]) == 1
    assert "Nothing fits into 2 GB" in capsys.readouterr().out


def test_which_card_a_larger_family_asks_for_is_said(capsys):
    flags = ["--family", "llama", "--model_size", "8B", "--seq_len", "512"]
    assert plan.main([*flags, "--card", "T4"]) == 1
    shown = capsys.readouterr().out
    assert "Llama 8B, LoRA" in shown
    (cards,) = re.findall(r"fits into one of these cards: (.+)\.", shown)
    assert set(cards.split(", ")) < set(plan.CARDS)
    assert plan.main([*flags, "--card", cards.split(", ")[0]]) == 0
    assert "A100-80GB" in cards


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_size", "9B"], "unknown model size '9B'"),
        (["--family", "lama"], "unknown family 'lama': choose one of gpt2, gpt_neo,"),
        (["--family", "llama"], "unknown model size '124M': choose one of tiny, mini, 1B"),
        (["--lora_targets", "q_proj"], "--lora_targets: "),
        (["--seq_len", "2000"], "--seq_len must be at most 1,024, not 2000"),
        (["--memory", "8", "--card", "T4"], "--memory and --card exclude each other"),
        (["--card", "T5"], f"--card must be one of {', '.join(plan.CARDS)}, not T5"),
        (["--card", "T4", "--device", "cpu"], "a card is a GPU"),
        (["--memory", "0"], "--memory must be above 0"),
        (["--memory", "nan"], "--memory must be above 0 and finite"),
        (["--memory", "inf"], "--memory must be above 0 and finite"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
        (["--lora_targets", "c_proj"], "gpt2 has no LoRA target 'c_proj'"),
    ],
)
def test_bad_input_is_one_line(flags, message, capsys):
    assert plan.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

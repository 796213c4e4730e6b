"""Flags: a mistake is a line that names it, no flag is in vain, and TensorFlow need not be there.

Command lines are those of the scripts, read up to where work would begin.
"""

import dataclasses
import importlib
import os
import shlex

import pytest
import yaml
from hostile import within

from classification_tuning import train as classification_train
from gpt2_tuning import cli
from gpt2_tuning.options.testing import GenerationOptions, LabelOptions
from gpt2_tuning.training import base_model, run_directory

LORA = "needs --lora_rank above 0: rank 0 tunes every weight"
DRAWS = "--sampling_method temperature, top_k or top_p: greedy draws nothing"
SEVERAL = "--batch_size needs several texts: --input, --evaluate, or"

LINES = """
classification_tuning/train --lr 1
    unknown flag --lr: did you mean --learning_rate?
classification_tuning/train --bs=4
    --bs: did you mean --batch_size?
classification_tuning/train --rank 4
    --rank: did you mean --lora_rank?
classification_tuning/train --model tiny
    --model: did you mean --model_size?
classification_tuning/test --model run
    --model: did you mean --run_dir?
classification_tuning/train --data x
    --data: did you mean --dataset_dir?
classification_tuning/prep_dataset --data x
    --data: did you mean --train_file
classification_tuning/train --output x
    --output: did you mean --output_dir?
classification_tuning/train --num_train_epochs 3
    --num_train_epochs: did you mean --epochs?
classification_tuning/train --max_steps 500
    --max_steps: did you mean --max_updates?
classification_tuning/train --eval_steps 50
    --eval_steps: did you mean --validate_every?
classification_tuning/train --learning-rat 3
    --learning-rat: did you mean --learning_rate?
classification_tuning/train --unheard_of 3
    unknown flag --unheard_of (--help
classification_tuning/train -e 3
    unknown flag -e (--help
classification_tuning/train epochs 3
    'epochs' stands where a flag should be
classification_tuning/train --epochs three
    --epochs must be a whole number, not three
classification_tuning/train --epochs 3.5
    --epochs must be a whole number, not 3.5
classification_tuning/train --epochs
    --epochs needs a value: a whole number
classification_tuning/train --epochs 3 4
    --epochs takes one value, not 2 (3 4)
classification_tuning/train --epochs 3 --epochs 0
    --epochs must be at least 1, not 0
classification_tuning/train --output_dir ''
    --output_dir is empty: it needs a value, a path
classification_tuning/train --resume true
    --resume takes no value, not true
classification_tuning/train --no_epochs
    unknown flag --no_epochs
classification_tuning/train --strategy both
    one of auto, one, mirrored, multi_worker, not both
classification_tuning/train --patience never
    --patience must be a whole number or None, not never
classification_tuning/train --learning_rate nan
    --learning_rate must be a number above 0, not nan
classification_tuning/train --learning_rate inf
    --learning_rate must be a number above 0, not inf
classification_tuning/train --seed -1
    --seed must be from 0 to 4294967295, not -1
classification_tuning/train --batch_size 9999999999999
    --batch_size must be at most 1048576, not 9999999999999
classification_tuning/train --gradient_accumulation 99999999
    --gradient_accumulation must be at most 4096, not 99999999
classification_tuning/train --strategy mirrored --logical_devices 100000
    --logical_devices must be at most 128, not 100000
classification_tuning/train --max_updates 0
    --max_updates must be at least 1, not 0
classification_tuning/train --lora_rank 999999999999999999999999999999
    --lora_rank must be of 64 bits, not 999999999999999999999999999999
classification_tuning/train --seeds 2 --seed 4294967295
    --seed must be below 4294967295 for --seeds 2, not 4294967295
classification_tuning/prep_dataset --seed -5
    --seed must be from 0 to 4294967295, not -5
text_tuning/prep_dataset --dataset sample --seed -5
    --seed must be from 0 to 4294967295, not -5
text_tuning/test --prompt x --batch_size 9999999999999
    --batch_size must be at most 1048576, not 9999999999999
classification_tuning/prep_dataset --dataset sample --label_column text
    --label_column is text, as --text_column is: each needs a column of its own
entailment_tuning/prep_dataset --dataset sample --hypothesis_column a --premise_column a
    --hypothesis_column is a, as --premise_column is: each
entailment_tuning/prep_dataset --dataset sample --hypothesis_column premise
    --hypothesis_column is premise, as --premise_column is: each
instruction_tuning/prep_dataset --response_column a --context_column a
    --response_column is a, as --context_column is: each
gpt2_tuning.commands.plan --batch_size 9999999999999
    --batch_size must be at most 1048576, not 9999999999999
gpt2_tuning.commands.launch --workers 100000 -- train.py
    --workers must be at most 128, not 100000
classification_tuning/train --model_size small
    --model_size: unknown model size 'small': choose one of tiny, mini, 124M, 355M, 774M, 1.5B
entailment_tuning/train --lora_targets c_attn
    --lora_targets: gpt2 has no LoRA target 'c_attn': choose among attn.c_attn,
entailment_tuning/train --family llama --model_size tiny --lora_targets attn.c_attn
    --lora_targets: llama has no LoRA target 'attn.c_attn': choose among q_proj, k_proj,
text_tuning/train --family llama --model_size 124m
    --model_size: unknown model size '124m': choose one of tiny, mini, 1B, 3B, 8B
text_tuning/train --family bert
    --family: unknown family 'bert': choose one of gpt2, gpt_neo,
entailment_tuning/train --modules_to_save wte,
    --modules_to_save must be none, or names with commas, such as wte,ln_f, not wte,
entailment_tuning/train --use_dora --lora_init pissa
    --use_dora does not go with --lora_init pissa
entailment_tuning/train --lora_bias some
    --lora_bias must be one of none, all, lora_only, not some
entailment_tuning/train --lora_layers 3-1
    --lora_layers must be all, or blocks by number from 0, such as 0,10-11, not 3-1
entailment_tuning/train --lora_alpha nan
    --lora_alpha must be a number above 0, not nan
entailment_tuning/train --lora_targets a --lora_targets b
    given twice: all its values go after one
text_tuning/test --prompt three words here
    not 3 (three words here): put a text with blanks
gpt2_tuning.commands.plan --model_size tiny --seq_len 64 --lora_rank 129
    --lora_rank 129 is above the size of attn.c_attn, 128 x 384, so a lower rank does the same
gpt2_tuning.commands.plan --card T5
    --card must be one of P100, V100, T4,
gpt2_tuning.commands.plan --devices 9
    --devices 9 cannot share a batch of 8
gpt2_tuning.commands.launch --workers 2 train.py
    nothing to launch: launch --workers 2 -- gpt2-tuning
gpt2_tuning.commands.certify --cases 3-devices
    --cases must be one of 2-devices,

classification_tuning/train --lora_alpha 32
    --lora_alpha {LORA}
classification_tuning/train --lora_alpha 16
    --lora_alpha {LORA}
classification_tuning/train --lora_dropout 0
    --lora_dropout {LORA}
text_tuning/train --lora_targets mlp.c_fc
    --lora_targets {LORA}
text_tuning/train --use_dora
    --use_dora {LORA}
text_tuning/train --lora_init olora
    --lora_init {LORA}
text_tuning/train --lora_bias all
    --lora_bias {LORA}
text_tuning/train --modules_to_save wte
    --modules_to_save {LORA}
text_tuning/train --adapter DIR --use_dora
    --use_dora needs --adapter and --continue to be left out
text_tuning/train --lora_layers 0
    --lora_layers {LORA}
text_tuning/train --tune all --lora_rank 8
    --tune needs --lora_rank 0 and no --adapter
text_tuning/train --tune all --adapter DIR
    --tune needs --lora_rank 0 and no --adapter
gpt2_tuning.commands.plan --lora_rank 0 --lora_targets x
    --lora_targets {LORA}
gpt2_tuning.commands.plan --card T4 --device gpu
    --device needs --card to be left out
classification_tuning/train --patience 4
    --patience needs more --epochs than that
classification_tuning/train --epochs 2 --max_updates 50
    --epochs needs --max_updates to be left out: it ends the run
classification_tuning/train --model_size tiny --pretrained DIR
    --model_size needs the published weights
classification_tuning/train --logical_devices 2
    --logical_devices needs --strategy mirrored
classification_tuning/train --strategy mirrored --logical_devices 64
    a batch of 16 cannot be divided into 64
classification_tuning/train --gradient_accumulation 17
    a batch of 16 cannot be divided into 17 parts
classification_tuning/prep_dataset --train_file a --validation_file b --test_file c --seed 1
    --seed needs a split to set aside, or --limit
text_tuning/prep_dataset --train_file a.txt --text_column body
    --text_column needs a file with columns, or --dataset
classification_tuning/test --text a --batch_size 4
    {SEVERAL} a flag given more than once
classification_tuning/test --text a --text_column b
    --text_column needs --input
classification_tuning/test --text a --dataset_dir b
    --dataset_dir needs --evaluate
classification_tuning/test --text a --output b
    --output needs --input
classification_tuning/test --text a --resume
    --resume needs --output
entailment_tuning/test --evaluate --premise_column a
    --premise_column needs --input
instruction_tuning/test --prompt a --batch_size 4
    {SEVERAL} --prompt given more than once
instruction_tuning/test --prompt a --seed 1
    --seed needs {DRAWS}
instruction_tuning/test --prompt a --temperature 0.5 --sampling_method greedy
    --temperature needs {DRAWS}
instruction_tuning/test --prompt a --top_p 0.5 --top_k 4
    --top_p needs --sampling_method top_p
instruction_tuning/test --prompt a --top_k 4 --sampling_method top_p
    --top_k needs --sampling_method top_k
instruction_tuning/test --prompt a --min_p 0.1 --sampling_method greedy
    --min_p needs {DRAWS}
instruction_tuning/test --prompt a --min_p 2
    --min_p must be from 0 to 1, not 2
text_tuning/test --prompt a --repetition_penalty 0
    --repetition_penalty must be above 0 and finite, not 0
text_tuning/test --prompt a --presence_penalty 3
    --presence_penalty must be from -2 to 2, not 3
text_tuning/test --prompt a --frequency_penalty nan
    --frequency_penalty must be
text_tuning/test --prompt a --no_repeat_ngram -1
    --no_repeat_ngram must be at least 0 and below 2^31, not -1
text_tuning/test --evaluate --no_repeat_ngram 3
    needs something to write: --prompt, --input or --inter
instruction_tuning/test --prompt a --rouge_rows 4
    --rouge_rows needs --evaluate
instruction_tuning/test --prompt a --context_column b
    --context_column needs --input
instruction_tuning/test --evaluate --rouge_rows 0 --stop a
    --stop needs something to write
instruction_tuning/test --evaluate --compare_base
    --compare_base needs --prompt
text_tuning/test --evaluate --max_new_tokens 4
    needs something to write: --prompt, --input or --inter
text_tuning/test --evaluate --rouge_rows 4
    --rouge_rows needs responses to compare
text_tuning/test --prompt a --cut_prompts
    --cut_prompts needs --input
instruction_tuning/test --evaluate --cut_prompts
    --cut_prompts needs --input
text_tuning/test --prompt a --prompt_column b
    --prompt_column needs --input
""".format_map(globals())
WRITTEN = [line.strip() for line in LINES.splitlines() if line]
WRONG = list(zip(WRITTEN[::2], WRITTEN[1::2], strict=True))


def answer(line, capsys):
    """The line with which a script refuses a command line, before it does anything."""
    name, *flags = shlex.split(line)
    module = importlib.import_module(name.replace("/", "."))
    assert module.main(flags) == cli.USAGE_ERROR
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_is_answered_by_what_is_wrong(line, message, capsys, monkeypatch):
    def begun():
        raise AssertionError("TensorFlow is imported")

    monkeypatch.setattr(cli, "import_tensorflow", begun)
    assert message in answer(line, capsys)


RECIPES = [
    ("lr: 1", "recipe.yaml: unknown flag lr: did you mean learning_rate?"),
    ("lora: {rank: 8}", "recipe.yaml: unknown flag lora: did you mean lora_rank"),
    ("epochs: 3.5", "epochs in recipe.yaml must be a whole number, not 3.5"),
    ("epochs: [1, 2]", "epochs in recipe.yaml must be a whole number, not a list"),
    ("epochs: {a: 1}", "epochs in recipe.yaml must be a whole number, not {'a': 1}"),
    ("epochs: yes", "epochs in recipe.yaml must be a whole number, not True (YAML's word"),
    ("epochs: 3\nepochs: 4", "recipe.yaml: epochs is set twice"),
    ("model_size: no", "model_size in recipe.yaml must be a text, not False (YAML's word"),
    ("resume: 1", "resume in recipe.yaml must be true or false, not 1"),
    ("lora_targets: []", "lora_targets in recipe.yaml needs a value"),
    ("pretrained: ''", "pretrained in recipe.yaml is empty"),
    ("config: other.yaml", "recipe.yaml: a config names no other config"),
    ("lora_alpha: 32", f"lora_alpha in recipe.yaml {LORA}"),
    ("1: 2", "recipe.yaml: unknown flag 1"),
    ("- epochs", "recipe.yaml is not a config"),
    ("", "recipe.yaml is not a config"),
    ("epochs: [", "cannot read the config recipe.yaml"),
    ("epochs: &all [1]\nlora_targets: *all", "recipe.yaml: *all is an alias: write out what it is"),
    (f"epochs: {'9' * 5000}", "recipe.yaml: it holds a number of 5,000 digits; 40 is the most"),
    (f"epochs: {'9' * 30}", "epochs in recipe.yaml must be of 64 bits, not 999999"),
    (f"epochs: {'[' * 50}{']' * 50}", "recipe.yaml: its lists or objects are nested more than 40"),
    (f"# {'x' * 300_000}", "the config recipe.yaml is larger than 256 KiB, the most that is read"),
    ('pretrained: "a\\0b"', "pretrained in recipe.yaml holds a null character"),
]


@pytest.mark.parametrize(("text", "message"), RECIPES, ids=[text for text, _ in RECIPES])
def test_a_wrong_recipe_is_answered_with_its_name(text, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(text)
    assert message in answer("classification_tuning/train --config recipe.yaml", capsys)


def test_a_pipe_in_place_of_a_recipe_is_not_waited_for(capsys, tmp_path):
    os.mkfifo(tmp_path / "recipe.yaml")
    with within(60):
        line = answer(f"classification_tuning/train --config {tmp_path / 'recipe.yaml'}", capsys)
    assert "recipe.yaml is a pipe, not a file" in line


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "recipe.yaml").write_text("epochs: 7", encoding="utf-8-sig")
    flags = ["--config", str(tmp_path / "recipe.yaml")]
    assert checked("classification_tuning/train", *flags).epochs == 7


def checked(script, *flags):
    """The options with which the script would begin."""
    module = importlib.import_module(script.replace("/", "."))
    return cli.checked_options(module.Options, flags)


@pytest.mark.parametrize(
    ("flags", "method"),
    [
        (["--top_p", "0.5"], "top_p"),
        (["--top_k", "5", "--temperature", "2"], "top_k"),
        (["--temperature", "2", "--seed", "1"], "temperature"),
        (["--min_p", "0.1"], "temperature"),
        (["--top_p", "0.5", "--min_p", "0.1", "--no_repeat_ngram", "3"], "top_p"),
    ],
)
def test_a_value_for_sampling_means_that_sampling_and_says_so(flags, method, capsys):
    options = checked("instruction_tuning/test", "--prompt", "a", *flags)
    assert options.sampling_method == method
    note = f"note: {flags[0]} is taken to mean --sampling_method {method}\n"
    assert capsys.readouterr().err == note
    assert checked("text_tuning/test", "--prompt", "a").sampling_method == "greedy"


def test_of_a_flag_given_twice_the_last_counts_and_is_said(capsys):
    options = checked("classification_tuning/train", "--epochs", "2", "--resume", "--epochs", "3")
    assert options.epochs == 3
    assert capsys.readouterr().err == "note: --epochs is given twice: the last one counts\n"


def test_a_run_is_repeated_and_resumed_with_the_flags_that_it_has(tmp_path):
    """Its record has every flag, some of them without effect; a recipe may name defaults."""
    options = dataclasses.replace(classification_train.Options(), lora_alpha=32.0, epochs=1)
    options = base_model.with_family(options)
    record = tmp_path / "options.yaml"
    record.write_text(yaml.safe_dump(run_directory.as_settings(options)))
    repeated = checked("classification_tuning/train", "--config", str(record))
    assert run_directory.as_settings(repeated) == run_directory.as_settings(options)
    resumed = ["--lora_alpha", "32", "--resume", "--output_dir", str(tmp_path)]
    assert checked("classification_tuning/train", *resumed).lora_alpha == 32
    (tmp_path / "recipe.yaml").write_text("lora_rank: 0\nlora_alpha: 16\n")
    checked("classification_tuning/train", "--config", str(tmp_path / "recipe.yaml"))


def test_values_may_begin_with_dashes_or_hold_an_equals_sign():
    options = checked("text_tuning/test", "--prompt=--a b=c", "--prompt", "- d", "--stop", "a=b")
    assert (options.prompt, options.stop) == (("--a b=c", "- d"), ("a=b",))


def test_flags_that_need_others_are_flags():
    for options in (GenerationOptions, LabelOptions, classification_train.Options):
        names = {field.name for field in dataclasses.fields(options)}
        of_tasks = {name for name in options.NEEDS if name.endswith("_column")}
        assert names >= options.NEEDS.keys() - of_tasks

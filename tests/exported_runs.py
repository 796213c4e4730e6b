"""Runs of every kind as training leaves them, without the training, for what exports them."""

import shutil

import keras
import yaml
from bases import BYTES, write_base
from samples import randomize

import classification_tuning.prep_dataset
import entailment_tuning.prep_dataset
import instruction_tuning.prep_dataset
import text_tuning.prep_dataset
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.runs import weights_record

CONFIG = GPT2Config(
    n_layer=1, n_embd=16, n_head=2, n_positions=256, initializer_range=0.2,
    embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
)  # fmt: skip
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ["attn.c_attn", "mlp.c_proj"]}
CARD = """\
# Text classifier

A GPT-2 tuned with gpt2-tuning.

![learning curves](curves.png)
![lost](lost.png)

## Use

    gpt2-tuning test classification --run_dir /home/ada/secret/run --text "..."

## Flags

    dataset_dir: /home/ada/secret/data
    epochs: 3
"""
SEQ_LEN = 40


def prepared(home):
    """Data of each task, in a directory each."""
    tasks = {
        "classification": (classification_tuning.prep_dataset, "sample"),
        "entailment": (entailment_tuning.prep_dataset, "sample"),
        "instruction": (instruction_tuning.prep_dataset, "sample"),
        "conversation": (instruction_tuning.prep_dataset, "sample_conversations"),
    }
    for name, (script, sample) in tasks.items():
        seq_len = SEQ_LEN if name in ("classification", "entailment") else 200
        flags = ["--dataset", sample, "--limit", "30", "--seq_len", str(seq_len)]
        assert script.main([*flags, "--output_dir", str(home / "data" / name)]) == 0


def prepared_for(home, base):
    """Data of plain text and of classes for another base."""
    (home / "plain.txt").write_text("The tide comes in, and goes out again.\n\n" * 40)
    flags = ["--base", str(base), "--seq_len", "40"]
    text = ["--train_file", str(home / "plain.txt"), "--output_dir", str(home / "data" / "text")]
    assert text_tuning.prep_dataset.main([*flags, *text]) == 0
    sample = ["--dataset", "sample", "--limit", "30"]
    classes = [*sample, "--output_dir", str(home / "data" / "other")]
    assert classification_tuning.prep_dataset.main([*flags, *classes]) == 0


def run_of(home, name, model, data, base="none"):
    """A run of a model on prepared data; an adapter of `base` where the model has LoRA."""
    run = home / "runs" / name
    run.mkdir(parents=True)
    for file in (home / "data" / data).glob("*.json"):
        shutil.copy(file, run)
    part = "adapter" if model.lora else "model"
    if model.lora:
        model.save_adapter(run / part)
    else:
        model.save_pretrained(run / part)
    weights_record.record(run, part)
    settings = {
        "model_size": "tiny", "pretrained": str(base), "epochs": 1, "seed": 0,
        "lora_rank": 2 if model.lora else 0, "dataset_dir": str(home / "data" / data),
    }  # fmt: skip
    (run / "options.yaml").write_text(yaml.safe_dump(settings))
    return run


def with_adapter(model_class, base, seed, **arguments):
    """A model of a base with an adapter that matters."""
    keras.utils.set_random_seed(seed)
    model = model_class.from_pretrained_silently(base, lora=LORA, **arguments)
    for layer in model.lora_layers().values():
        layer.lora_B.assign(keras.random.normal(layer.lora_B.shape, 0, 0.3, seed=seed))
    for head in model.head_weights().values():
        head.assign(keras.random.normal(head.shape, 0, 0.5, seed=seed))
    return model


def write_runs(home):
    """Data, a base, and runs: `mood`, `pairs` and `follow` are adapters of it."""
    prepared(home)
    base = home / "base"
    randomize(GPT2Model(CONFIG).built_now()).save_pretrained(base)
    moods = ["anger", "fear", "joy", "love", "sadness", "surprise"]
    mood = with_adapter(GPT2Classifier, base, 1, label_names=moods)
    pairs = with_adapter(GPT2Classifier, base, 2, label_names=["entailment", "not_entailment"])
    follow = with_adapter(GPT2LanguageModel, base, 3)
    run = run_of(home, "mood", mood, "classification", base)
    (run / "README.md").write_text(CARD)
    (run / "curves.png").write_bytes(b"a picture")
    run_of(home, "pairs", pairs, "entailment", base)
    run_of(home, "follow", follow, "instruction", base)
    whole = randomize(GPT2LanguageModel(CONFIG).built_now())
    run_of(home, "talk", whole, "conversation")


def write_other_runs(home):
    """Runs of a base with a tokenizer of its own: `tides` writes, `kinds` labels."""
    base = write_base(home / "other", BYTES)
    prepared_for(home, base)
    run_of(home, "tides", with_adapter(GPT2LanguageModel, base, 4), "text", base)
    labels = ["anger", "fear", "joy", "love", "sadness", "surprise"]
    kinds = with_adapter(GPT2Classifier, base, 5, label_names=labels)
    run_of(home, "kinds", kinds, "other", base)

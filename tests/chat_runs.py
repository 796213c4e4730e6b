"""Runs as training leaves them, without the training, for the page on which they are tried."""

import shutil

import numpy as np

import classification_tuning.prep_dataset
import entailment_tuning.prep_dataset
import instruction_tuning.prep_dataset
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.runs import weights_record

CONFIG = GPT2Config(
    n_layer=1, n_embd=32, n_head=2, n_positions=1024, initializer_range=0.2,
    embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
)  # fmt: skip
PREPARE = {
    "classes": (classification_tuning, "sample"),
    "pairs": (entailment_tuning, "sample"),
    "form": (instruction_tuning, "sample"),
    "talk": (instruction_tuning, "sample_conversations"),
}


def prepared(home):
    """A data set of each kind, and two bases, below a directory."""
    for kind, (task, source) in PREPARE.items():
        flags = ["--dataset", source, "--limit", "20", "--output_dir", str(home / f"{kind}-data")]
        if kind in ("form", "talk"):
            flags += ["--seq_len", "128"]
        assert task.prep_dataset.main(flags) == 0
    for seed, name in enumerate(("base", "other-base")):
        model = GPT2Model(CONFIG).built_now()
        random = np.random.default_rng(seed)
        for variable in model.weights:
            variable.assign(random.normal(0, 0.2, variable.shape))
        model.save_pretrained(home / name)
    return home


def left_run(home, name, kind, base="base", lora=True, seed=0, **settings):
    """A run of a kind of data on a base; each seed tuned it otherwise."""
    run = home / name
    run.mkdir()
    shutil.copy(home / f"{kind}-data" / "metadata.json", run)
    settings = {
        "pretrained": str(home / base),
        "dataset_dir": str(home / f"{kind}-data"),
    } | settings
    (run / "options.yaml").write_text("".join(f"{n}: {v}\n" for n, v in settings.items()))
    model = model_of(home, kind, base, lora)
    random = np.random.default_rng(100 + seed)
    tuned = [*model.head_weights().values()] if kind in ("classes", "pairs") else []
    tuned += [layer.lora_B for layer in model.lora_layers().values()] if lora else model.weights
    for variable in tuned:
        variable.assign(random.normal(0, 0.5, variable.shape))
    if lora:
        model.save_adapter(run / "adapter")
    else:
        model.save_pretrained(run / "model")
    weights_record.record(run, "adapter" if lora else "model")
    return run


def model_of(home, kind, base, lora):
    """An untuned model of the kind."""
    arguments = {"lora": {"rank": 2} if lora else None}
    if kind == "classes":
        names = ["anger", "fear", "joy", "love", "sadness", "surprise"]
        return GPT2Classifier.from_pretrained_silently(home / base, label_names=names, **arguments)
    if kind == "pairs":
        names = ["entailment", "not_entailment"]
        return GPT2Classifier.from_pretrained_silently(home / base, label_names=names, **arguments)
    return GPT2LanguageModel.from_pretrained_silently(home / base, **arguments)

"""Runs as training leaves them, without the training, for what serves them."""

import shutil

from answer_runs import LABELS
from samples import randomize

import classification_tuning.prep_dataset
import instruction_tuning.prep_dataset
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.runs import weights_record

CONFIG = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=128)
LORA = {"rank": 2, "alpha": 8, "targets": ["attn.c_attn"]}


def base_in(directory):
    """A base of random weights."""
    randomize(GPT2Model(CONFIG).built_now()).save_pretrained(directory)
    return directory


def lora_run(directory, data, base, seed=0):
    """A run that tuned an adapter of a base on instructions."""
    model = GPT2LanguageModel.from_pretrained_silently(base, lora=LORA)
    for layer in model.lora_layers().values():
        for factor in (layer.lora_A, layer.lora_B):
            factor.assign(factor * 0 + 0.1 * (seed + 1))
    directory.mkdir()
    model.save_adapter(directory / "adapter")
    weights_record.record(directory, "adapter")
    shutil.copy(data / "metadata.json", directory)
    (directory / "options.yaml").write_text(f"dataset_dir: {data}\npretrained: {base}\n")
    return directory


def instruction_runs(home):
    """Two runs, `tone` and `facts`, on one base."""
    flags = ["--dataset", "sample", "--limit", "12", "--output_dir", str(home / "data")]
    assert instruction_tuning.prep_dataset.main(flags) == 0
    base = base_in(home / "base")
    return [
        lora_run(home / name, home / "data", base, seed)
        for seed, name in enumerate(("tone", "facts"))
    ]


def label_run(home):
    """A run that tuned all of a classifier."""
    flags = ["--dataset", "sample", "--limit", "12", "--output_dir", str(home / "labels")]
    assert classification_tuning.prep_dataset.main(flags) == 0
    directory = home / "moods"
    directory.mkdir()
    randomize(GPT2Classifier(CONFIG, label_names=LABELS).built_now()).save_pretrained(
        directory / "model"
    )
    weights_record.record(directory, "model")
    shutil.copy(home / "labels" / "metadata.json", directory)
    (directory / "options.yaml").write_text(f"dataset_dir: {home / 'labels'}\n")
    return directory

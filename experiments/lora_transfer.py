"""Does LoRA reach what a frozen base cannot? Head-only, LoRA and full tuning of one base.

The base is a `mini` model that was fully tuned, from random weights, on three of the six emotions;
then each method learns all six from it, with three seeds. Run from src/ as

    PYTHONPATH=. python ../experiments/lora_transfer.py EMOTION_DIR WORK_DIR

where EMOTION_DIR holds train.jsonl and validation.jsonl of dair-ai/emotion. Prints a table in
Markdown, for RESULTS.md. About twenty minutes on two CPU cores.
"""

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

import keras
import numpy as np

from classification_tuning import prep_dataset, train
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.families.known import LORA_TARGETS
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.training.base_model import lora_of
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.tuner import Tuner

BASE_CLASSES = ("fear", "love", "surprise")
"""The rarer half: what the base knows is a quarter of the rows."""
SEEDS = (0, 1, 2)
ROWS = 4000
METHODS = {"head only": (0, 3e-3), "LoRA, rank 8": (8, 3e-3), "full": (0, 6e-4)}
"""Rank and learning rate. Of 3e-4, 1e-3 and 3e-3 the last did best for the head alone and for LoRA
(seed 0, 2,000 rows); full tuning has the default for random weights."""
COMMON = ClassifierOptions(
    epochs=6, batch_size=16, patience=None, lora_targets=LORA_TARGETS, precision="float32"
)


def prepare_three(emotion: Path, work: Path) -> Path:
    """The rows of the base's three classes, prepared."""
    for split in ("train", "validation"):
        rows = (emotion / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if json.loads(row)["label"] in BASE_CLASSES]
        (work / f"three-{split}.jsonl").write_text("\n".join(kept), encoding="utf-8")
    return prepare(work / "three-train.jsonl", work / "three-validation.jsonl", work / "three")


def prepare(train_file: Path, validation_file: Path, output: Path, *more: str) -> Path:
    """A prepared data set, made unless it is there."""
    files = ["--train_file", str(train_file), "--validation_file", str(validation_file)]
    if not output.exists() and prep_dataset.main([*files, "--output_dir", str(output), *more]):
        raise SystemExit(2)
    return output


def make_base(data: Path, work: Path) -> Path:
    """The base of a model that was fully tuned on three classes."""
    base = work / "base"
    if not base.exists():
        flags = ["--model_size", "mini", "--pretrained", "none", "--epochs", "6", "--overwrite"]
        run = work / "three-run"
        if train.main(["--dataset_dir", str(data), "--output_dir", str(run), *flags]):
            raise SystemExit(2)
        GPT2Classifier.from_pretrained(run / "model").save_base(base)
    return base


def tune(method: str, seed: int, base: Path, data: Path, work: Path) -> tuple[float, int]:
    """The best validation accuracy of one run, and how many parameters it trained."""
    metadata = read_metadata(data, "classification")
    rank, rate = METHODS[method]
    options = dataclasses.replace(COMMON, seed=seed, lora_rank=rank)
    keras.utils.set_random_seed(seed)
    model = GPT2Classifier.from_pretrained(
        base, label_names=metadata.label_names, lora=lora_of(options)
    )
    if model.lora:
        model.freeze_all_but_lora()
    elif method == "head only":
        for weight in model.transformer.weights:
            weight.trainable = False
    sources = [
        BatchSource(read_records(data, metadata, split), options.batch_size)
        for split in ("train", "validation")
    ]
    run = work / f"run-{time.time_ns()}"
    tuner = Tuner(model, *sources, options, rate, run, make_strategy("one"))
    score = max(row["val_accuracy"] for row in tuner.fit())
    shutil.rmtree(run)
    return score, sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def main(emotion: Path, work: Path) -> None:
    """Runs all methods and seeds and prints the table."""
    work.mkdir(parents=True, exist_ok=True)
    base = make_base(prepare_three(emotion, work), work)
    files = (emotion / "train.jsonl", emotion / "validation.jsonl")
    data = prepare(*files, work / "six", "--limit", str(ROWS))
    heads = " | ".join(f"seed {seed}" for seed in SEEDS)
    rows = [f"| method | trained | learning rate | {heads} | mean ± sd |"]
    rows.append("| --- |" + " ---: |" * (len(SEEDS) + 3))
    for method, (_, rate) in METHODS.items():
        found = [tune(method, seed, base, data, work) for seed in SEEDS]
        scores = [score for score, _ in found]
        cells = " | ".join(f"{score:.4f}" for score in scores)
        spread = f"{np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}"
        rows.append(f"| {method} | {found[0][1]:,} | {rate:g} | {cells} | {spread} |")
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

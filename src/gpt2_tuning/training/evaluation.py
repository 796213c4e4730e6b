"""What a classifier's run leaves for people: scores, pictures and a model card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.files import write_text
from gpt2_tuning.inference.classification import predict_probabilities
from gpt2_tuning.metrics import ClassificationScores, classification_scores
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.plots import plot_confusion, plot_curves

CURVES_FILE = "curves.png"
CONFUSION_FILE = "confusion.png"


def evaluate_classifier(
    model: GPT2Classifier, records: Records, run_dir: Path, split: str, batch_size: int
) -> ClassificationScores:
    """Scores one split; prints the report and writes <split>.json and confusion.png."""
    probabilities = predict_probabilities(model, records, batch_size)
    labels = records.columns["label"]
    scores = classification_scores(labels, np.argmax(probabilities, axis=1), model.label_names)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n{split}: accuracy {scores.accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}\n")
    console.print(scores.report, markup=False)
    write_text(run_dir / f"{split}.json", json.dumps(scores.to_dict(), indent=2) + "\n")
    plot_confusion(scores.confusion, model.label_names, run_dir / CONFUSION_FILE)
    return scores


def write_model_card(
    run_dir: Path,
    title: str,
    settings: dict[str, Any],
    metadata: Metadata,
    history: list[dict[str, float]],
    scores: dict[str, Any],
) -> None:
    """Draws the curves and writes the run's README.md.

    Args:
        run_dir: the run's directory.
        title: what the model does.
        settings: the flags the run was started with.
        metadata: the data it was tuned on.
        history: one row of figures for each epoch.
        scores: figures on the validation split, by name.
    """
    plot_curves(history, run_dir / CURVES_FILE)
    best = max(history, key=lambda row: row["val_accuracy"])
    kind = f"LoRA, rank {settings['lora_rank']}" if settings["lora_rank"] else "every weight"
    base = settings["pretrained"] or settings["model_size"]
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in scores.items())
    flags = "\n".join(f"    {name}: {value}" for name, value in settings.items())
    sizes = ", ".join(f"{entry['examples']:,} {name}" for name, entry in metadata.splits.items())
    write_text(
        run_dir / "README.md",
        f"""# {title}

A GPT-2 ({settings["model_size"]}) tuned with gpt2-tuning: {kind}; base weights: {
            "random" if base == "none" else base
        }.

Classes: {", ".join(metadata.label_names or [])}.

Data: {metadata.dataset["name"]} ({metadata.dataset["source"]}); examples: {sizes}.
Fingerprint of the rows: `{metadata.dataset["fingerprint"]}`.

## Validation

| figure | value |
| --- | --- |
{rows}

The weights are those of epoch {best["epoch"]} of {len(history)}. They were chosen on this very
split, so the figures flatter the model a little; `test.py --evaluate` scores it on the test split.

![learning curves]({CURVES_FILE})
![confusion matrix]({CONFUSION_FILE})

## Use

    python classification_tuning/test.py --run_dir {run_dir.absolute()} --text "..."

## Flags

{flags}
""",
    )

"""What a classifier's evaluation leaves for people: an honest scorecard and a picture."""

from pathlib import Path

import numpy as np
from rich.console import Console

from gpt2_tuning.data.glue import scores_f1
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.files import write_text
from gpt2_tuning.inference.classification import predict_probabilities
from gpt2_tuning.metrics import (
    ClassificationScores,
    Figure,
    classification_scores,
    scores_as_json,
)
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.plots import plot_confusion

CONFUSION_FILE = "confusion.png"
HEADLINE = ("accuracy", "macro_f1", "mcc")


def evaluate_classifier(
    model: GPT2Classifier,
    records: Records,
    metadata: Metadata,
    run_dir: Path,
    split: str,
    batch_size: int,
) -> ClassificationScores:
    """Scores one split; prints the scorecard and writes <split>.json and confusion.png.

    The baseline answers the class that is the commonest in the train split of `metadata`.
    """
    probabilities = predict_probabilities(model, records, batch_size)
    in_train = metadata.splits["train"]["labels"]
    scores = classification_scores(
        records.columns["label"],
        np.argmax(probabilities, axis=1),
        model.label_names,
        baseline_class=int(np.argmax([in_train[name] for name in model.label_names])),
    )
    print_scorecard(scores, metadata, split)
    write_text(run_dir / f"{split}.json", scores_as_json(scores.to_dict()))
    plot_confusion(scores.confusion, model.label_names, run_dir / CONFUSION_FILE)
    return scores


def headline_names(metadata: Metadata) -> list[str]:
    """The figures people are shown: F1 of one class only where it is official."""
    return [*HEADLINE, *(["f1"] if scores_f1(metadata.dataset["name"]) else [])]


def headline_figures(scores: ClassificationScores, metadata: Metadata) -> list[Figure]:
    """Those figures."""
    return [scores.figures[name] for name in headline_names(metadata)]


def print_scorecard(scores: ClassificationScores, metadata: Metadata, split: str) -> None:
    """Each figure with its interval and the baseline's, then the report by class."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\n{split}: {scores.examples:,} examples, with 95 % intervals;"
        f" the baseline always answers {scores.baseline_class!r}"
    )
    figures = headline_figures(scores, metadata)
    width = max(len(figure.title) for figure in figures)
    for figure in figures:
        console.print(
            f"  {figure.title:{width}} {figure.value:.4f}  "
            f"({figure.low:.4f} to {figure.high:.4f})  baseline {figure.baseline:.4f}"
        )
    console.print(verdict(scores) + "\n")
    console.print(scores.report)


def verdict(scores: ClassificationScores) -> str:
    """What the accuracy comes to, in a sentence."""
    accuracy = scores.figures["accuracy"]
    if accuracy.beats_baseline:
        return "The whole interval of the accuracy lies above the baseline."
    return (
        "The interval of the accuracy reaches down to the baseline: this split does not show that "
        f"the model does better than always answering {scores.baseline_class!r}."
    )


def scorecard_section(scores: ClassificationScores, metadata: Metadata) -> str:
    """The same scorecard in Markdown, for a model card."""
    rows = "\n".join(
        f"| {figure.title} | {figure.value:.4f} | {figure.low:.4f} to {figure.high:.4f} "
        f"| {figure.baseline:.4f} |"
        for figure in headline_figures(scores, metadata)
    )
    return f"""| figure | value | 95 % interval | always {scores.baseline_class!r} |
| --- | --- | --- | --- |
{rows}

{verdict(scores)} The intervals are of a bootstrap over the
{scores.examples:,} examples: what other examples might have given, not what another seed might."""

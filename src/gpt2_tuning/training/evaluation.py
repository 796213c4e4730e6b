"""What a classifier's evaluation leaves for people: an honest scorecard and pictures."""

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

from gpt2_tuning.calibration import BINS, Calibration, calibration
from gpt2_tuning.data.glue import scores_f1
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.files import write_text
from gpt2_tuning.inference.classification import predict_probabilities
from gpt2_tuning.markdown import escaped, table
from gpt2_tuning.metrics import (
    ClassificationScores,
    Figure,
    classification_scores,
    scores_as_json,
    shown_interval,
)
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.plots import plot_calibration, plot_confusion
from gpt2_tuning.training.mistakes import Mistake, mistakes_table, surest_mistakes

HEADLINE = ("accuracy", "macro_f1", "mcc")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a split's evaluation found."""

    split: str
    metadata: Metadata
    scores: ClassificationScores
    calibration: Calibration
    mistakes: list[Mistake]
    """The surest ones."""

    @property
    def confusion_file(self) -> str:
        """The picture of the confusion matrix, in the run's directory."""
        return f"confusion_{self.split}.png"

    @property
    def calibration_file(self) -> str:
        """The reliability diagram, in the run's directory."""
        return f"calibration_{self.split}.png"


def evaluate_classifier(
    model: Classifier,
    records: Records,
    metadata: Metadata,
    run_dir: Path,
    split: str,
    batch_size: int,
) -> Evaluation:
    """Scores one split; prints the scorecard and writes <split>.json and the split's pictures.

    The baseline answers the class that is the commonest in the train split of `metadata`.
    """
    probabilities = predict_probabilities(model, records, batch_size)
    labels = records.columns["label"]
    scores = classification_scores(
        labels,
        np.argmax(probabilities, axis=1),
        model.label_names,
        baseline_class=int(np.argmax(metadata.label_counts("train"))),
    )
    found = Evaluation(
        split,
        metadata,
        scores,
        calibration(probabilities, labels),
        surest_mistakes(records, probabilities, model.label_names, metadata.tokenizer),
    )
    print_scorecard(found)
    content = {**scores.to_dict(), "calibration": found.calibration.to_dict()}
    write_text(run_dir / f"{split}.json", scores_as_json(content))
    names = model.label_names
    plot_confusion(scores.confusion, names, run_dir / found.confusion_file, split)
    plot_calibration(found.calibration, run_dir / found.calibration_file, split)
    return found


def headline_names(metadata: Metadata) -> list[str]:
    """The figures people are shown: F1 of one class only where it is official."""
    return [*HEADLINE, *(["f1"] if scores_f1(metadata.dataset["name"]) else [])]


def headline_figures(found: Evaluation) -> list[Figure]:
    """Those figures."""
    return [found.scores.figures[name] for name in headline_names(found.metadata)]


def print_scorecard(found: Evaluation) -> None:
    """Each figure with its interval and the baseline's, then the report by class."""
    scores = found.scores
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\n{found.split}: {scores.examples:,} examples, with 95 % intervals;"
        f" the baseline always answers {scores.baseline_class!r}"
    )
    figures = headline_figures(found)
    width = max(len(figure.title) for figure in figures)
    for figure in figures:
        console.print(
            f"  {figure.title:{width}} {figure.value:.4f}  "
            f"({shown_interval(figure.low, figure.high)})  baseline {figure.baseline:.4f}"
        )
    console.print(verdict(scores))
    console.print(confidence(found) + "\n")
    console.print(scores.report)


def verdict(scores: ClassificationScores) -> str:
    """What the accuracy comes to, in a sentence."""
    accuracy = scores.figures["accuracy"]
    if accuracy.beats_baseline:
        return "The whole interval of the accuracy lies above the baseline."
    if accuracy.falls_below_baseline:
        return (
            "The whole interval of the accuracy lies below the baseline: always answering "
            f"{scores.baseline_class!r} does better."
        )
    return (
        "The interval of the accuracy reaches down to the baseline: this split does not show that "
        f"the model does better than always answering {scores.baseline_class!r}."
    )


def confidence(found: Evaluation) -> str:
    """How far the probabilities can be taken at their word, in two sentences."""
    sure, right = found.calibration.mean_confidence, found.scores.accuracy
    return (
        f"Expected calibration error: {found.calibration.error:.4f}. "
        f"The answers' mean probability is {sure:.4f}; {right:.4f} of them are right."
    )


def scorecard_section(found: Evaluation) -> str:
    """Scorecard, pictures and the surest mistakes in Markdown, for a model card."""
    scores = found.scores
    figures = table(
        ["figure", "value", "95 % interval", escaped(f"always {scores.baseline_class!r}")],
        (
            [
                escaped(figure.title),
                f"{figure.value:.4f}",
                shown_interval(figure.low, figure.high),
                f"{figure.baseline:.4f}",
            ]
            for figure in headline_figures(found)
        ),
    )
    return f"""{figures}

{escaped(verdict(scores))}
The interval of the accuracy is Wilson's, the others are of a bootstrap over the
{scores.examples:,} examples, which shows none where all resamples score the same. They say what
other examples might have given, not what another seed might.

{confidence(found)}
The error is over {BINS} bins of the same width of that probability (Guo et al. 2017).

![confusion matrix, {found.split}]({found.confusion_file})
![calibration, {found.split}]({found.calibration_file})

{mistakes_section(found)}"""


def mistakes_section(found: Evaluation) -> str:
    """The surest mistakes, or that there are none."""
    scores = found.scores
    wrong = scores.examples - int(np.trace(scores.confusion))
    if not wrong:
        return f"None of the {scores.examples:,} answers is wrong."
    return f"""### Most confidently wrong, {found.split}

{wrong:,} of {scores.examples:,} answers are wrong. Those the model was surest of:

{mistakes_table(found.mistakes)}"""

"""Scores of a classifier's predictions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score


@dataclasses.dataclass(frozen=True)
class ClassificationScores:
    """What a split's predictions come to; `confusion` is int [classes, classes], rows are true."""

    examples: int
    accuracy: float
    macro_f1: float
    report: str
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The figures as they go into a JSON file."""
        return {
            "examples": self.examples,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "confusion": self.confusion.tolist(),
        }


def classification_scores(
    labels: np.ndarray, predicted: np.ndarray, label_names: Sequence[str]
) -> ClassificationScores:
    """Scores integer predictions [N] against integer labels [N]."""
    every = list(range(len(label_names)))
    return ClassificationScores(
        examples=len(labels),
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, labels=every, average="macro", zero_division=0)),
        report=classification_report(
            labels,
            predicted,
            labels=every,
            target_names=list(label_names),
            zero_division=0,
            digits=3,
        ),
        confusion=confusion_matrix(labels, predicted, labels=every),
    )

"""What a request for labels or for vectors comes to: jobs for the engine, and the answer's form."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gpt2_tuning.checks import is_text
from gpt2_tuning.inference.classification import Prediction, classify
from gpt2_tuning.inference.embedding import Embedder, Pooling
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.serving import answers, body
from gpt2_tuning.serving.prompts import ids_of
from gpt2_tuning.serving.refusal import wrong
from gpt2_tuning.serving.served import Named, Served
from gpt2_tuning.serving.wanted import Limits, model_of

EXAMPLES, TOGETHER = 16, 4
"""Texts of a job, after which others have their turn, and those computed together."""
TOKENS = 2048
"""Of the texts that become vectors together, padding included, unless one alone has more."""


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Texts, or pairs of texts, that are to be labelled."""

    model: Named
    examples: list[tuple[str, ...]]

    def jobs(self, served: Served) -> list[Callable[[], list[Prediction]]]:
        """What computes them, a few at a time."""
        starts = range(0, len(self.examples), EXAMPLES)
        parts = [self.examples[start : start + EXAMPLES] for start in starts]
        return [lambda part=part: self._labelled(served.model, part) for part in parts]  # type: ignore[misc]

    def _labelled(self, model: Any, part: list[tuple[str, ...]]) -> list[Prediction]:
        # Without adapters there is no choice of them.
        adapters = None if model.gate is None else [self.model.adapter] * len(part)
        return classify(model, part, TOGETHER, self.model.seq_len, adapters=adapters)

    def body(self, found: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
        """The answer."""
        data = [
            {"index": index, "label": one.label, "probabilities": one.probabilities}
            for index, one in enumerate(one for part in found for one in part)
        ]
        return {"object": "list", "model": self.model.name, "data": data}


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Texts that are to become vectors."""

    model: Named
    rows: list[list[int]]
    pooling: Pooling
    encoding: str

    def jobs(self, served: Served) -> list[Callable[[], np.ndarray]]:
        """What computes them, a few at a time."""
        parts, embedder = [list[list[int]]()], served.embedder
        for row in self.rows:
            longest = max(map(len, [*parts[-1], row]))
            if parts[-1] and longest * (len(parts[-1]) + 1) > TOKENS:
                parts.append([])
            parts[-1].append(row)
        return [lambda part=part: self._vectors(embedder, part) for part in parts]  # type: ignore[misc]

    def _vectors(self, embedder: Embedder, part: list[list[int]]) -> np.ndarray:
        return embedder.embed(part, self.model.adapter, self.pooling)

    def body(self, found: Sequence[np.ndarray]) -> dict[str, Any]:
        """The answer."""
        vectors, tokens = [one for part in found for one in part], sum(map(len, self.rows))
        return answers.embeddings(self.model.name, vectors, self.encoding, tokens)


def labelling(given: Mapping[str, Any], served: Served, limits: Limits) -> Labelling:
    """What the body of a request to /v1/classify asks for. Raises Refusal."""
    fields = body.checked(given, body.CLASSIFY)
    model = model_of(fields, served)
    if not isinstance(served.model, Classifier):
        raise wrong(f"the model `{model.name}` writes: ask /v1/completions", "model")
    if not model.label_names:
        raise wrong(f"the model `{model.name}` was not tuned to label texts", "model")
    texts = [fields["input"]] if is_text(fields["input"]) else fields["input"]
    examples = [(one,) if isinstance(one, str) else tuple(one) for one in texts]
    if any(len(example) != (model.texts or len(example)) for example in examples):
        kind = "pairs of texts" if model.texts == 2 else "single texts, no pairs"
        raise wrong(f"the model `{model.name}` labels {kind}", "input")
    if not all(text.strip() for example in examples for text in example):
        raise wrong("input holds an empty text", "input")
    return Labelling(model, examples)


def embedding(given: Mapping[str, Any], served: Served, limits: Limits) -> Embedding:
    """What the body of a request to /v1/embeddings asks for. Raises Refusal."""
    fields = body.checked(given, body.EMBED)
    model = model_of(fields, served)
    width = served.model.config.decoder.width
    if fields.get("dimensions", width) != width:
        raise wrong(f"dimensions must be {width}, the model's width, or be left out", "dimensions")
    vocabulary = served.model.config.decoder.vocabulary
    rows = ids_of(fields["input"], "input", served.tokenizer, vocabulary)
    if max(map(len, rows)) > served.positions:
        raise wrong(
            f"a text of input has more tokens than the model's context, {served.positions:,}",
            "input",
            "context_length_exceeded",
        )
    how = fields.get("pooling", "last"), fields.get("encoding_format", "float")
    return Embedding(model, rows, *how)

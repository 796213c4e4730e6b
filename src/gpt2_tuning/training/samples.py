"""What a language model writes once it is tuned, to be looked at beside its figures."""

import contextlib

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.language_model import LanguageModel

COUNT = 3
NEW_TOKENS = 32
BEGINNING = 16
"""Tokens of a plain text that are continued, or half of it where it is shorter."""


def sample_responses(model: LanguageModel, records: Records, metadata: Metadata) -> str:
    """Greedy responses to prompts spread evenly over a split, in Markdown.

    Args:
        model: a tuned one.
        records: the split.
        metadata: of the data; without a template the beginnings of its texts are continued.

    Returns:
        Nothing where no prompt leaves room, or no memory is left for it.
    """
    lengths = np.minimum(BEGINNING, (records.lengths + 1) // 2)
    if metadata.template:
        lengths = records.columns["prompt_length"]
    fitting = np.flatnonzero(lengths <= model.config.decoder.positions - NEW_TOKENS)
    if not len(fitting):
        return ""
    rows = np.unique(fitting[np.linspace(0, len(fitting) - 1, COUNT).astype(int)])
    prompts = [records.row(row)[: lengths[row]].tolist() for row in rows]
    with contextlib.suppress(tf.errors.ResourceExhaustedError):
        responses = generate_text(model, prompts, NEW_TOKENS)
        tokenizer = metadata.tokenizer
        return "\n\n".join(
            f"{indented(tokenizer.decode(prompt))}\n\n**→**\n\n{indented(response)}"
            for prompt, response in zip(prompts, responses, strict=True)
        )
    return ""


def indented(text: str) -> str:
    """A text as Markdown shows it word for word."""
    return "\n".join(f"    {line}" for line in text.splitlines())

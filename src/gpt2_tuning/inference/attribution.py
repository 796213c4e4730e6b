"""Which tokens a classifier's answer hangs on, by gradient x input.

That is the first order alone: how fast the score changes as a token's vector grows in its own
direction. It is no account of how the model decides, and its sum is not the score.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.classification import token_rows
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gate import Choice

HALF = "\ufffd"
"""What a part of a character decodes to."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A stretch of the text that the model read: of a token, or of several that share a letter."""

    text: str
    value: float
    """Above 0 it speaks for the class, below 0 against it."""


def gradient_times_input(
    model: Classifier,
    texts: tuple[str, ...],
    label: str,
    seq_len: int | None = None,
    adapter: Choice = None,
) -> list[Share]:
    """The gradient of a class's score with respect to each token's vector, times that vector.

    The score is taken against the mean of all classes' scores, since only differences count.
    Positions are no input here. Source: Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713.

    Args:
        model: a tuned classifier.
        texts: one text or the two of a pair, none empty.
        label: one of the classes.
        seq_len: as for `classify_text`.
        adapter: as one of `adapters` there; for a model without any it is None.

    Raises:
        UserError: a text is empty, or there is no such class or adapter.
    """
    [ids] = token_rows(model, [texts], seq_len)
    names = model.chosen_label_names(adapter)
    if label not in names:
        raise UserError(f"there is no class {label!r}: the model has {', '.join(names)}")
    values = values_of_tokens(model, ids, names.index(label), len(names), adapter)
    return shares_of_text(ids, values, model.tokenizer)


def values_of_tokens(
    model: Classifier, ids: Sequence[int], label: int, classes: int, adapter: Choice
) -> np.ndarray:
    """Gradient x input of each token, float32 [T], of the class with this number."""
    inputs = {
        "token_ids": tf.constant([ids], tf.int32),
        "attention_mask": tf.ones([1, len(ids)], tf.int32),
    }
    gate = model.rows_gate([adapter]) if model.gate else None
    table = model.transformer.tokens.embeddings.value
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(table)
        logits = model(inputs, training=False, gate=gate)[0, :classes]
        score = logits[label] - tf.reduce_mean(logits)
    gradient = tape.gradient(score, table)
    # The table is read once, for the tokens in their order: so the slices are theirs.
    assert isinstance(gradient, tf.IndexedSlices)
    slices = tf.reshape(gradient.values, [len(ids), -1])
    vectors = tf.gather(table, ids)
    return tf.reduce_sum(tf.cast(slices * vectors, tf.float32), axis=1).numpy()


def shares_of_text(
    ids: Sequence[int], values: Sequence[float] | np.ndarray, tokenizer: Tokenizer
) -> list[Share]:
    """The text of tokens, stretch by stretch, each with the sum of its tokens' values.

    A stretch ends where a character does: the tokens of an emoji are one.
    """
    shares: list[Share] = []
    done, waiting = "", 0.0
    for count, value in enumerate(values, start=1):
        text, waiting = tokenizer.decode(ids[:count]), waiting + float(value)
        last = count == len(ids)
        if last or not (text.endswith(HALF) or text == done):
            shares.append(Share(text[len(done) :], waiting))
            done, waiting = text, 0.0
    return shares

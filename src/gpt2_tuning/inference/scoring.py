"""How likely a language model finds tokens that are there already, and what it finds likelier."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.row_adapters import gate_of
from gpt2_tuning.inference.running import padded_right
from gpt2_tuning.models.gate import Choice
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.products import project

SLAB = 64
"""Tokens whose scores, a number for every token of the vocabulary, are computed together."""


class TokenScore(NamedTuple):
    """What the model's scores say of one token, before penalties, temperature and cuts."""

    token: int
    log_probability: float
    likeliest: tuple[tuple[int, float], ...]
    """The likeliest tokens in this place with their logarithms, as many as were asked for."""


class Scorer:
    """Scores the tokens of one row at a time.

    Args:
        model: built; its weights and adapters must not change from now on.
        head: the table that scores next tokens, [width, V], in the type of products.
    """

    def __init__(self, model: LanguageModel, head: tf.Tensor):
        self._model, self._head = model, head
        rows = tf.TensorSpec([1, None], tf.int32)
        inputs = {"token_ids": rows, "attention_mask": rows}
        if model.gate is not None:
            inputs["gate"] = model.rows_gate_spec(1)
        self._hidden = tf.function(
            lambda inputs: model.hidden_at_targets(inputs, training=False)[0],
            [inputs],
            autograph=False,
        )
        self._scores = tf.function(self._scores_of, reduce_retracing=True, autograph=False)

    def score(
        self, ids: Sequence[int], first: int, adapter: Choice = None, most: int = 0
    ) -> list[TokenScore]:
        """The scores of `ids[first:]`, each after all that come before it.

        Args:
            ids: a row's tokens, no more than the model's positions.
            first: at least 1: nothing comes before the first token.
            adapter: what the row is scored under.
            most: how many of the likeliest tokens are told.
        """
        inputs = padded_right([ids[:-1]])
        if (gate := gate_of(self._model, [adapter], 1)) is not None:
            inputs["gate"] = tf.constant(gate)
        hidden = self._hidden(inputs)[first - 1 : len(ids) - 1]
        wanted = tf.constant(ids[first:], tf.int32)
        most = min(most, int(self._head.shape[1]))
        found: list[TokenScore] = []
        for start in range(0, len(ids) - first, SLAB):
            part = (hidden[start : start + SLAB], wanted[start : start + SLAB])
            own, best, tokens = (x.numpy() for x in self._scores(*part, tf.constant(max(most, 1))))
            for token, value, row, names in zip(part[1].numpy(), own, best, tokens, strict=True):
                pairs = zip(names[:most].tolist(), row[:most].tolist(), strict=True)
                found.append(TokenScore(int(token), float(value), tuple(pairs)))
        return found

    def _scores_of(self, hidden, tokens, most):
        """Log-probabilities of tokens, [N], and of the `most` likeliest, [N, most], with these."""
        logits = tf.cast(project(hidden[tf.newaxis], self._head)[0], tf.float32)
        scores = tf.nn.log_softmax(logits)
        # A prompt may hold an id that the tokenizer lacks, which has no score.
        known = tokens < tf.shape(scores)[1]
        own = tf.gather(scores, tf.where(known, tokens, 0), batch_dims=1)
        own = tf.where(known, own, -np.inf)
        return own, *tf.math.top_k(scores, most)

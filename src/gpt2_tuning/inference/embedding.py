"""Texts as vectors: the last hidden states of a tuned model, or of its base."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.row_adapters import gate_of
from gpt2_tuning.inference.running import padded_right
from gpt2_tuning.models.gate import Choice
from gpt2_tuning.models.inputs import last_real_token
from gpt2_tuning.models.tunable import TunableModel

Pooling = Literal["last", "mean"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean")


class Embedder:
    """Vectors of rows of token ids.

    Args:
        model: built; its weights and adapters must not change from now on.
    """

    def __init__(self, model: TunableModel):
        self._model = model
        rows = tf.TensorSpec([None, None], tf.int32)
        inputs = {"token_ids": rows, "attention_mask": rows}
        if model.gate is not None:
            inputs["gate"] = model.rows_gate_spec()
        self._pooled = tf.function(self._pooled_states, [inputs], autograph=False)

    def embed(self, rows: Sequence[Sequence[int]], adapter: Choice, pooling: Pooling) -> np.ndarray:
        """A vector a row, float32 [B, width].

        Args:
            rows: token ids, none empty, none longer than the model's positions.
            adapter: what they are computed under.
            pooling: the state of the last token, or the mean over all tokens.
        """
        inputs = padded_right(rows)
        if (gate := gate_of(self._model, [adapter] * len(rows), len(rows))) is not None:
            inputs["gate"] = tf.constant(gate)
        last, mean = self._pooled(inputs)
        return (last if pooling == "last" else mean).numpy()

    def _pooled_states(self, inputs):
        """Both poolings of the last hidden states, each float32 [B, width]."""
        gate = self._model.gate_of_pass(inputs.get("gate"))
        hidden = self._model.transformer(inputs, training=False, gate=gate)
        hidden = tf.cast(hidden, tf.float32)
        mask = inputs["attention_mask"]
        last = tf.gather(hidden, last_real_token(mask), axis=1, batch_dims=1)
        weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
        mean = tf.reduce_sum(hidden * weights, axis=1) / tf.reduce_sum(weights, axis=1)
        return last, mean

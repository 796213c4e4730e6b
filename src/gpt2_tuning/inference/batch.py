"""A batch of prompts on its way, as a thing that is asked for more tokens; it knows no text."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.inference.generation_settings import Generation


class Batch:
    """Prompts that are continued together, some tokens at a time.

    Args:
        decoder: of the model, whose weights and gate count as they are now.
        prompts: token ids; none is empty.
        numbers: each prompt's own, from which together with its seed its randomness comes.
        generations: how each is continued, all with the same sampler; `stop` is not looked at.
        gate: each row's adapters, as a model's `rows_gate`; for a decoder `by_row`.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        generations: Sequence[Generation],
        gate: np.ndarray | None = None,
    ):
        (self._sampler,) = {generation.sampler for generation in generations}
        self._decoder, self._weights = decoder, decoder.weights()
        values = RowValues.of(generations)
        start = (self._weights, prompts, numbers, values, self._sampler, gate)
        self._state = decoder.start(*start)
        self._first: np.ndarray | None = self._state.tokens.numpy()[:, np.newaxis]

    @property
    def done(self) -> bool:
        """Whether no row needs a further token."""
        return self._first is None and bool(self._state.finished.numpy().all())

    def advance(self, count: int) -> np.ndarray:
        """The next tokens of every row, int32 [B, n]: one at the first call, then up to `count`.

        Rows that are finished repeat their last token; n is below count where none is left.
        """
        if self._first is not None:
            tokens, self._first = self._first, None
            return tokens
        state = self._state
        left = tf.where(state.finished, 0, state.values.max_new_tokens - state.made)
        count = min(count, int(tf.reduce_max(left)))
        tokens, self._state = self._decoder.extend(self._weights, state, count, self._sampler)
        return tokens

    def finish(self, rows: Sequence[bool]) -> None:
        """Says which rows need no further token, for reasons that are not in the tokens."""
        finished = self._state.finished | tf.constant(rows)
        self._state = self._state._replace(finished=finished)

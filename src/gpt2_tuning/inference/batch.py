"""A batch of prompts on its way, as a thing that is asked for more tokens; it knows no text."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.inference.decoding_state import State
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
        self._rows = len(prompts)  # the others of the state are copies that are finished
        count = self._rows if self._sampler else decoder.rows_for(self._rows)
        rows = with_copies(range(self._rows), count)
        state = decoder.start(
            self._weights,
            [prompts[row] for row in rows],
            [numbers[row] for row in rows],
            RowValues.of([generations[row] for row in rows]),
            self._sampler,
            None if gate is None else gate[rows],
        )
        self._state = with_copies_finished(state, self._rows)
        self._first: np.ndarray | None = state.tokens.numpy()[: self._rows, np.newaxis]

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
        return tokens[: self._rows]

    def finish(self, rows: Sequence[bool]) -> None:
        """Says which rows need no further token, for reasons that are not in the tokens."""
        copies = [True] * (len(self._state.finished) - self._rows)
        finished = self._state.finished | tf.constant([*rows, *copies])
        self._state = self._state._replace(finished=finished)


def with_copies(rows: Sequence[int], count: int) -> list[int]:
    """The rows, at least one, with as many copies of the first behind them as make them `count`."""
    return [*rows, *[rows[0]] * (count - len(rows))]


def with_copies_finished(state: State, count: int) -> State:
    """The state in which every row behind the first `count` is finished, being a copy."""
    if state.tokens.shape[0] == count:
        return state
    copies = tf.range(state.tokens.shape[0]) >= count
    return state._replace(finished=state.finished | copies)

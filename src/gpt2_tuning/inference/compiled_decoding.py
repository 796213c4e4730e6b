"""Decoding where XLA compiles whole loops, for each shape by itself: so there are few shapes.

The cache's slots are a power of two, of which a part is filled, and so is the length that prompts
are padded to; how much is filled, and how many tokens are asked for, is data. Who makes a batch has
as many rows in it as `rows_for` says.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.inference.decoding_state import (
    State,
    Weights,
    begun_state,
    grown,
    inputs_of,
    left_padded,
)
from gpt2_tuning.inference.penalties import NO_TOKEN
from gpt2_tuning.inference.sampling import Sampler
from gpt2_tuning.models.cache import Cache, FixedCache
from gpt2_tuning.models.kernels import compile_it

SHORTEST = 16
"""The least length that prompts are padded to."""
LEAST_SLOTS = 128
"""The fewest slots of a cache that tokens are added to."""
TURNS = 64
"""The most tokens a row that one call of the compiled loop adds: as many has its result."""


class CompiledDecoder(Decoder):
    """A Decoder whose reading of prompts and whose loop are each one module of XLA.

    It gives the same tokens, near ties excepted. What a sampler of one's own does may be more than
    XLA can compile: with one it decodes as Decoder does.
    """

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.begin, self.add = compile_it(self._begun), compile_it(self._added)
        self._known: set[tuple] = set()

    def rows_for(self, count: int) -> int:
        """As Decoder's: a power of two, so that there are few sizes."""
        return power_of_two(count)

    def start(
        self,
        weights: Weights,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        values: RowValues,
        sampler: Sampler | None = None,
        gate: np.ndarray | None = None,
        multiple: int = 1,
    ) -> State:
        """As Decoder's. Its length has nothing to do with `multiple`, unless there is a sampler."""
        if sampler is not None:
            return super().start(weights, prompts, rows, values, sampler, gate, multiple)
        longest = max(map(len, prompts))
        # Empty slots come after the longest prompt, which is where new tokens go.
        empty = max(power_of_two(longest), SHORTEST) - longest
        history = left_padded(prompts, longest)
        history = np.pad(history, [[0, 0], [0, empty]], constant_values=NO_TOKEN)
        row_gate = () if gate is None else (tf.constant(gate),)
        numbers = tf.constant(rows, tf.int64)
        given = (tf.constant(history), tf.constant(longest), numbers, values, row_gate)
        return self._call(self.begin, history.shape, weights, *given)

    def extend(
        self, weights: Weights, state: State, count: int, sampler: Sampler | None = None
    ) -> tuple[np.ndarray, State]:
        """As Decoder's."""
        if sampler is not None:
            return super().extend(weights, state, count, sampler)
        left = tf.where(state.finished, 0, state.values.max_new_tokens - state.made)
        # No more than that is in need of slots.
        count = min(count, int(tf.reduce_max(left)))
        parts = [np.zeros([state.tokens.shape[0], 0], np.int32)]
        while count > 0:
            asked = min(count, TURNS)
            state = with_room(state, asked)
            given = (weights, state, tf.constant(asked))
            tokens, turns, state = self._call(self.add, tuple(state.history.shape), *given)
            parts.append(tokens.numpy()[:, : int(turns)])
            # Where fewer came, all rows are finished.
            count = count - asked if parts[-1].shape[1] == asked else 0
        return np.concatenate(parts, axis=1), state

    def _call(self, function: tf.function, shape: tuple[int, ...], *arguments):
        """What a function gives for arguments whose shapes all follow from one, a history's."""
        if (function is self.add, shape) not in self._known:
            self._known.add((function is self.add, shape))
            # Where calls trace, TensorFlow warns after five, as if that went on.
            function.get_concrete_function(*arguments)
        return function(*arguments)

    def _begun(self, weights: Weights, history, longest, rows, values: RowValues, gate) -> State:
        """Reads prompts and chooses the first new token of each.

        Args:
            weights: from `weights()`.
            history: int32 [B, S], the prompts, which end before slot `longest`; NO_TOKEN elsewhere.
            longest: int32 scalar.
            rows: int64 [B], their numbers.
            values: how each is continued.
            gate: as State's.
        """
        self.traces += 1
        empty = FixedCache(*self._model.empty_cache(*history.shape))
        logits, cache = self._logits(weights, inputs_of(history), empty, gate, at=longest - 1)
        # Nothing sees what was computed in the empty slots: they are masked until they are written.
        cache = Cache(cache.keys, cache.values, cache.mask, longest)
        state = begun_state(history, rows, cache, values, gate)
        return self._choose(None, logits, state, compiled=True)

    def _added(self, weights: Weights, state: State, count):
        """Up to `count` tokens of every row, int32 [B, TURNS]; how many; and the state."""
        self.traces += 1
        state = state._replace(cache=FixedCache(*state.cache))
        turns, tokens, state = self._loop(None, weights, state, count, TURNS, compiled=True)
        return tf.transpose(tokens), turns, state._replace(cache=Cache(*state.cache))


def with_room(state: State, count: int) -> State:
    """The state with room for `count` more tokens a row: in as few sizes as there can be."""
    slots = state.cache.mask.shape[1]
    needed = max(power_of_two(max(int(state.cache.filled) + count, slots)), LEAST_SLOTS)
    return state if needed == slots else grown(state, needed - slots)


def power_of_two(count: int) -> int:
    """The least that is not below `count`, of at least 1."""
    return 1 << (count - 1).bit_length()

"""A batch that never ends: rows join it and leave it while the others go on.

All rows have their newest token in the same slot of the cache, whatever their lengths: so to join
is to be laid beside the others with the last slots in line. What a row computes is what it would
alone, since its mask hides the slots before its first token. Where the loop is compiled, finished
copies of others make the number of rows one of few.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.batch import with_copies, with_copies_finished
from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.decoding_state import State, signatures
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.penalties import NO_TOKEN
from gpt2_tuning.inference.row_adapters import gate_of
from gpt2_tuning.models.cache import Cache
from gpt2_tuning.models.gate import Choice
from gpt2_tuning.models.language_model import LanguageModel

MULTIPLE = 16
"""Prompts are padded to multiples of it: oneDNN keeps what it prepares for each size of a product,
a thousand of each kind, which would be tens of megabytes in a process that goes on and on."""


class RunningBatch:
    """Rows of one model, each with its own adapters, length and way to be continued.

    Args:
        model: built or not; its weights and adapters must not change from now on.
        tokenizer: says how many ids may be chosen, and which one ends a row.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer):
        self._model, self._by_row = model.built_now(), model.gate is not None
        self._decoder = decoder_of(model, tokenizer.vocabulary, [tokenizer.end], self._by_row)
        self._weights = self._decoder.weights()
        self._state: State | None = None
        self._rows = 0  # the others of the state are copies that are finished
        vocabulary = min(tokenizer.vocabulary, model.config.decoder.vocabulary)
        _, _, state = signatures(self._model, vocabulary, self._by_row)
        rows = tf.TensorSpec([None], tf.int32)
        self._kept = tf.function(kept_alone, [state, rows], autograph=False)
        self._joined = tf.function(joined, [state, rows, state, rows], autograph=False)

    @property
    def head(self) -> tf.Tensor:
        """The table that scores next tokens, [width, V], in the type of products."""
        return self._weights.head

    def __len__(self) -> int:
        return self._rows

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        generations: Sequence[Generation],
        adapters: Sequence[Choice],
    ) -> State:
        """Rows that may join: their prompts are read, and the first token of each is chosen.

        Args:
            prompts: token ids; none is empty.
            numbers: from which, together with its seed and the count of its tokens, a row's
                randomness comes.
            generations: without a sampler of one's own; `stop` is not looked at.
            adapters: what each row is continued under.
        """
        count = len(prompts)
        rows = with_copies(range(count), self._decoder.rows_for(count))
        of_rows = [adapters[row] for row in rows]
        gate = gate_of(self._model, of_rows, len(rows)) if self._by_row else None
        state = self._decoder.start(
            self._weights,
            [prompts[row] for row in rows],
            [numbers[row] for row in rows],
            RowValues.of([generations[row] for row in rows]),
            None,
            gate,
            MULTIPLE,
        )
        return state if len(rows) == count else self._kept(state, tf.range(count))

    def regroup(
        self, kept: Sequence[int], new: State | None = None, joining: Sequence[int] = ()
    ) -> None:
        """Leaves some rows, and takes in others.

        Args:
            kept: the rows that stay, in their new order.
            new: from `read`.
            joining: which rows of it join, behind the others.
        """
        old, parts = self._state, []
        if old is not None and kept:
            parts.append((old, kept))
        if new is not None and joining:
            parts.append((new, joining))
        self._rows = sum(len(rows) for _, rows in parts)
        if not parts:
            self._state = None
            return
        last, rows = parts[-1]
        more = self._decoder.rows_for(self._rows) - self._rows
        parts[-1] = (last, with_copies(rows, len(rows) + more))
        given = [(state, tf.constant(rows, tf.int32)) for state, rows in parts]
        state = self._joined(*given[0], *given[1]) if len(given) > 1 else self._kept(*given[0])
        self._state = with_copies_finished(state, self._rows)

    def advance(self, count: int) -> np.ndarray:
        """The next tokens of every row, int32 [B, n], n of at most `count`.

        A row that the end of text or its length has finished repeats its last token.
        """
        assert self._state is not None
        tokens, self._state = self._decoder.extend(self._weights, self._state, count)
        return tokens[: self._rows]


def padded_right(rows: Sequence[Sequence[int]]) -> dict[str, tf.Tensor]:
    """Rows of token ids as a model's inputs, `token_ids` and their mask, both int32 [B, T]."""
    length = -(-max(map(len, rows)) // MULTIPLE) * MULTIPLE
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"token_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}


def joined(old: State, kept, new: State, joining) -> State:
    """Rows of two states as one, in as few slots as the longest of them needs."""
    span = tf.maximum(longest(old, kept), longest(new, joining))
    parts = (in_line(old, kept, span), in_line(new, joining, span))
    return tf.nest.map_structure(
        lambda first, second: tf.concat([first, second], axis=0) if first.shape.rank else first,
        *parts,
    )


def kept_alone(state: State, kept) -> State:
    """Some rows of a state, in as few slots as the longest of them needs."""
    return in_line(state, kept, longest(state, kept))


def longest(state: State, kept) -> tf.Tensor:
    """The most tokens that one of some rows has in the cache, an int32 scalar."""
    return tf.reduce_max(tf.reduce_sum(tf.gather(state.cache.mask, kept), axis=1))


def in_line(state: State, kept, span) -> State:
    """Some rows of a state, whose newest `span` slots are all there is.

    Args:
        state: of rows that have no gap between their tokens and the newest slot.
        kept: int32 [K], the rows.
        span: int32 scalar; where the state has fewer slots in use, empty ones come before them.
    """
    cache, filled = state.cache, state.cache.filled
    first = tf.maximum(filled - span, 0)
    before = span - (filled - first)

    def moved(part, axis: int, empty=0):
        part = part[(slice(None),) * axis + (slice(first, filled),)]
        edges = [[before, 0] if place == axis else [0, 0] for place in range(part.shape.rank)]
        return tf.pad(tf.gather(part, kept), edges, constant_values=empty)

    rest = {
        name: tf.nest.map_structure(lambda part: tf.gather(part, kept), getattr(state, name))
        for name in ("tokens", "finished", "made", "rows", "values", "gate")
    }
    return State(
        cache=Cache(
            tuple(moved(part, 2) for part in cache.keys),
            tuple(moved(part, 2) for part in cache.values),
            moved(cache.mask, 1),
            span,
        ),
        history=moved(state.history, 1, NO_TOKEN),
        prompted=tf.gather(state.prompted, kept) - filled + span,
        **rest,
    )

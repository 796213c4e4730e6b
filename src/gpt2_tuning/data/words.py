"""Many texts to token ids by their words, each different one of which is tokenised once.

No token of GPT-2 goes on from a character into the blank space after it. So a text falls apart
into words, each with the space before it, whose tokens end to end are those of the text; and texts
repeat their words: of emotion's 307,000 one in twenty is new.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gpt2_tuning.data.tokenizer import GPT2Tokenizer

MARK = "\0"
"""Stands between two words while texts are taken apart."""
BETWEEN = r"([^\s\x{0b}\x{1c}-\x{1f}\x{85}\pZ])([ \n])"
"""Where a word ends: a character that is no blank space of any kind, then a space or line break.
Where blank space follows blank space, what is a token depends on what comes after it."""
KNOWN = 100_000
"""Words that are kept at most."""


class WordTokenizer:
    """Gives the token ids that the tokenizer gives, and keeps those of the words it has seen."""

    def __init__(self, tokenizer: GPT2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As GPT2Tokenizer.encode_batch: the token ids of each text, on all cores.

        Raises:
            UserError: a text holds a lone surrogate, which is no character.
        """
        if any(MARK in text for text in texts):
            return self.tokenizer.encode_batch(texts)
        try:
            array = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:
            return self.tokenizer.encode_batch(texts)  # which says what is wrong
        marked = pc.replace_substring_regex(array, BETWEEN, rf"\1{MARK}\2")
        words = pc.split_pattern(marked, MARK)
        found = words.flatten().dictionary_encode()
        different = found.dictionary.to_pylist()
        new = [word for word in different if word not in self._known]
        if len(new) > len(found) / 2:  # numbers, or a language without spaces
            return self.tokenizer.encode_batch(texts)
        if len(self._known) + len(new) > KNOWN:
            self._known, new = {}, different
        self._known.update(zip(new, self.tokenizer.encode_batch(new), strict=True))
        ids = [self._known[word] for word in different]
        return joined(ids, found.indices.to_numpy(), words.offsets.to_numpy())


def joined(ids: list[list[int]], numbers: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    """The ids of words end to end, text by text.

    Args:
        ids: of each different word.
        numbers: the number of every word of all texts, int [words].
        offsets: where each text begins and ends among the words, int [texts + 1].
    """
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64, lengths.sum())
    starts, lengths = (np.cumsum(lengths) - lengths)[numbers], lengths[numbers]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    tokens = flat[np.repeat(starts, lengths) + within].tolist()
    return [tokens[start:stop] for start, stop in itertools.pairwise(ends[offsets].tolist())]

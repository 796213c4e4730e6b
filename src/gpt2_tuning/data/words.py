"""Many texts to token ids by their words, each different one of which is tokenised once.

No token of GPT-2 goes on from a character into the blank space after it. So a text falls apart
into words, each with the space before it, whose tokens end to end are those of the text; and texts
repeat their words: of emotion's 307,000 one in twenty is new. Of which tokenizers that is true,
they say themselves (`by_words`).
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from gpt2_tuning.data.tokenizer import Tokenizer, begun

PRINTED = (ord("!"), ord("~"))
"""The first and the last of the bytes after which a word may end: the characters of ASCII that are
no blank space. Where blank space follows blank space, what is a token depends on what comes after;
other alphabets have blank spaces of their own, so after those no word ends."""
BLANKS = (ord(" "), ord("\n"))
"""What the next word then begins with."""
KNOWN = 100_000
"""Words that are kept at most."""


class WordTokenizer:
    """Gives the token ids that the tokenizer gives, and keeps those of the words it has seen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As the tokenizer's: the token ids of each text, on all cores.

        Raises:
            UserError: a text holds a lone surrogate, which is no character.
        """
        if not self.tokenizer.by_words:
            return self.tokenizer.encode_batch(texts)
        try:
            array = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:
            return self.tokenizer.encode_batch(texts)  # which says what is wrong
        words, offsets = split(array)
        found = words.dictionary_encode()
        different = found.dictionary.to_pylist()
        new = [word for word in different if word not in self._known]
        if len(new) > len(found) / 2:  # numbers, or a language without spaces
            return self.tokenizer.encode_batch(texts)
        if len(self._known) + len(new) > KNOWN:
            self._known, new = {}, different
        self._known.update(zip(new, self.tokenizer.encode_batch(new), strict=True))
        ids = [self._known[word] for word in different]
        return joined(ids, found.indices.to_numpy(), offsets)

    def encode_first(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """As `encode_batch`, of texts that examples begin with: after the tokenizer's start."""
        return [begun(ids, self.tokenizer) for ids in self.encode_batch(texts)]


def split(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, np.ndarray]:
    """The words of all texts end to end, and where each text begins and ends among them.

    Returns:
        The words, and int64 [texts + 1]. An empty text has no word.
    """
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)
    letters = np.frombuffer(content or b"", np.uint8)
    printed = (letters >= PRINTED[0]) & (letters <= PRINTED[1])
    begins = np.zeros(len(letters), bool)
    begins[1:] = ((letters[1:] == BLANKS[0]) | (letters[1:] == BLANKS[1])) & printed[:-1]
    begins[ends[:-1][np.diff(ends) > 0]] = True
    starts = np.flatnonzero(begins)
    places = pa.py_buffer(np.append(starts, ends[-1]))
    words = pa.LargeStringArray.from_buffers(len(starts), places, content)
    return words, np.searchsorted(starts, ends)


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

"""A tokenizer nothing like GPT-2's: ids above 65,535, one for each purpose, and no words."""

from collections.abc import Mapping
from types import MappingProxyType

FIRST = 70_000
"""The id of a byte of 0."""
BLANK = FIRST + 128
"""A blank after something else: words that are tokenised one by one begin with another."""


def ids_of(text):
    """A token a character of ASCII."""
    return [
        BLANK if (before, here) != (" ", " ") and here == " " and place else FIRST + ord(here)
        for place, (before, here) in enumerate(zip(" " + text, text, strict=False))
    ]


class WideTokenizer:
    """As the protocol has it."""

    vocabulary = BLANK + 5
    start: int | None = None
    end, separator, pad = BLANK + 1, BLANK + 2, BLANK + 3
    end_text = "[END]"
    cuts = None
    by_words = False
    special_ids = MappingProxyType({"[END]": BLANK + 1})
    named = MappingProxyType({"eos_token": "[END]"})
    sha256 = "w" * 64
    single_bytes: Mapping[int, bytes] = MappingProxyType({})

    def encode(self, text):
        return ids_of(text)

    def encode_batch(self, texts):
        return list(map(ids_of, texts))

    def encode_with_spans(self, texts):
        return [(ids_of(text), [(i, i + 1) for i in range(len(text))]) for text in texts]

    def decode(self, ids, skip_end_of_text=False):
        shown = {BLANK: " ", self.end: "" if skip_end_of_text else self.end_text}
        return "".join(shown[i] if i in shown else chr(i - FIRST) for i in ids)

    def continued(self, ids):
        return self.decode(ids)

    def bytes_of(self, token):
        return self.decode([token]).encode("utf-8")

    def save(self, directory):
        raise NotImplementedError

"""One prompt's continuation: tokens come in, text goes out, up to the end or a stop string.

Stop strings are looked for in the text, and where a row ends does not depend on the batch, nor on
how many tokens are computed between two looks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.generation_settings import Generation


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What the model added to one prompt."""

    token_ids: tuple[int, ...]
    """The new tokens that lie wholly before the end: neither 50256 nor any of a stop string."""
    text: str
    """The new text before 50256 or before the stop string."""
    ended: Literal["end_of_text", "stop", "length"]
    """By the token 50256, by a stop string, or because all new tokens were used up."""


class Row:
    """The continuation of one prompt while it grows."""

    def __init__(self, tokenizer: Tokenizer, generation: Generation):
        self._tokenizer = tokenizer
        self._stop, self._left = generation.stop, generation.max_new_tokens
        self._ids: list[int] = []
        self._text = self._settled = ""
        self.ended: Literal["end_of_text", "stop", "length"] | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The new tokens so far; once the row has ended, those of its continuation."""
        return tuple(self._ids)

    @property
    def left(self) -> int:
        """How many further tokens it takes at most."""
        return 0 if self.ended else self._left

    def add(self, tokens: Sequence[int]) -> None:
        """Takes the next tokens, up to where the row ends."""
        if self.ended:
            return
        tokens = list(tokens)[: self._left]
        self._left -= len(tokens)
        if self._tokenizer.end in tokens:
            tokens = tokens[: tokens.index(self._tokenizer.end)]
            self.ended = "end_of_text"
        elif not self._left:
            self.ended = "length"
        self._ids += tokens
        self._text = self._tokenizer.continued(self._ids)
        self._settled = self._text if self.ended else self._ready_text()
        place = find_stop(self._settled, self._stop)
        if place is not None:
            self.ended = "stop"
            self._text = self._settled[:place]
            while not self._text.startswith(self._tokenizer.continued(self._ids)):
                self._ids.pop()

    def settled_text(self) -> str:
        """The text so far without what further tokens could still change or cut off."""
        if self.ended:
            return self._text
        return self._settled[: len(self._settled) - length_of_begun_stop(self._settled, self._stop)]

    def _ready_text(self) -> str:
        """The text so far without what further tokens could still change."""
        text, single = self._text, self._tokenizer.single_bytes
        ready = len(self._ids)
        while ready and self._ids[ready - 1] in single:
            ready -= 1
        if ready < len(self._ids):
            text = self._tokenizer.continued(self._ids[:ready])
        # Half a character decodes to one U+FFFD; so do bytes that never become one, later.
        return text.removesuffix("\ufffd")

    def continuation(self) -> Continuation:
        """The finished row."""
        assert self.ended is not None
        return Continuation(tuple(self._ids), self._text, self.ended)


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string to be complete begins; of several ending there, the longest.

    The first to end, not to begin: that is what a look after every token would find.
    """
    found = [(text.find(word) + len(word), text.find(word)) for word in stop if word in text]
    return min(found)[1] if found else None


def length_of_begun_stop(text: str, stop: Sequence[str]) -> int:
    """How many of the text's last characters may be the beginning of a stop string.

    "ab#" with the stop string "##" gives 1.
    """
    lengths = (n for word in stop for n in range(1, len(word)) if text.endswith(word[:n]))
    return max(lengths, default=0)

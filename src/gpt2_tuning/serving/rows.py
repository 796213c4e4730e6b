"""One answer on its way through the engine: what was asked for, and what is told meanwhile."""

import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Literal

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.continuation import Row
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.scoring import Scorer, TokenScore
from gpt2_tuning.models.gate import Choice

Ended = Literal["end_of_text", "stop", "length", "late", "failed"]
"""By the model, by a stop string or the count of tokens; at its deadline; by an error of ours."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """An answer that is asked for."""

    prompt: tuple[int, ...]
    """Token ids, at least one; with the new ones no more than the model's positions."""
    generation: Generation
    adapter: Choice = None
    number: int = 0
    """Among the answers of one request: with its seed and a token's place it draws the token."""
    scored: int | None = None
    """How many likelier tokens are told of beside each token's score; None scores nothing."""
    streamed: bool = False
    """Whether it is told piece by piece; else at its end alone."""
    deadline: float = math.inf
    """When it ends as `late`, by `time.monotonic`."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """What is new of an answer."""

    text: str
    tokens: int
    """How many tokens the answer has so far."""
    scores: tuple[TokenScore, ...] = ()
    """Of those tokens whose text is told, or all told by now, where they are wanted."""
    ended: Ended | None = None


Listener = Callable[[Piece], None]
"""Is called in the engine's thread, so it must be quick and must not fail."""


class ServedRow:
    """An answer that is waiting, running or over."""

    def __init__(self, asked: Asked, tokenizer: Tokenizer, listener: Listener):
        self.asked = asked
        self._row, self._tokenizer, self._listener = (
            Row(tokenizer, asked.generation),
            tokenizer,
            listener,
        )
        self._told, self._scored = 0, 0
        self.over = threading.Event()
        """Set once it has ended, or nobody waits for it any more."""
        self.gone = False

    @property
    def left(self) -> int:
        """How many further tokens it takes at most."""
        return self._row.left

    @property
    def made(self) -> int:
        """How many tokens it has."""
        return len(self._row.token_ids)

    def leave(self) -> None:
        """Nobody waits for it any more: nothing further is told."""
        self.gone = True
        self.over.set()

    def take(self, tokens: list[int], scorer: Scorer | None) -> None:
        """Takes its next tokens, and tells what follows from them."""
        if self.over.is_set():
            return
        self._row.add(tokens)
        if self._row.ended:
            self.end(self._row.ended, scorer)
        elif self.asked.streamed:
            text = self._row.settled_text()
            if len(text) > self._told:
                scores = self._new_scores(text, scorer)
                piece = Piece(text[self._told :], self.made, scores)
                self._told = len(text)
                self._listener(piece)

    def end(self, reason: Ended, scorer: Scorer | None = None) -> None:
        """Ends it, and tells the rest."""
        if self.over.is_set():
            return
        text = self._row.settled_text()
        scores = self._new_scores(None, scorer) if self._row.ended else ()
        self.over.set()
        self._listener(Piece(text[self._told :], self.made, scores, reason))

    def _new_scores(self, text: str | None, scorer: Scorer | None) -> tuple[TokenScore, ...]:
        """The scores of the tokens that lie wholly in a text, or of all, but for those told."""
        if self.asked.scored is None or scorer is None:
            return ()
        ids, first, last = self._row.token_ids, self._scored, len(self._row.token_ids)
        if text is not None:
            # Half a character is no beginning of a text, but with its other half it is.
            last = first
            for end in range(first + 1, len(ids) + 1):
                if text.startswith(self._tokenizer.continued(ids[:end])):
                    last = end
        self._scored = last
        if last == first:
            return ()
        prompt = self.asked.prompt
        found = scorer.score(
            [*prompt, *ids[:last]], len(prompt) + first, self.asked.adapter, self.asked.scored
        )
        return tuple(found)

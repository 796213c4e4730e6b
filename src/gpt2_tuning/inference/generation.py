"""Text from a language model: whole continuations of many prompts, or one as it comes.

The model works in tokens, people in text. Stop strings are looked for in the text, and where a row
ends does not depend on the batch, nor on how many tokens are computed between two looks.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.inference.decoding import decoder_of
from gpt2_tuning.inference.sampling import Greedy, Sampler
from gpt2_tuning.models.language_model import LanguageModel

Prompt = str | Sequence[int]
"""A text, or token ids."""
GREEDY = Greedy()

CHUNK = 64
"""Tokens computed at a stretch. The keys and values so far are copied once a stretch."""
STOP_CHUNK = 16
"""The same where there are stop strings, which are looked for between stretches."""
STREAM_CHUNK = 4
"""The same in streaming: about as much as is read at a glance."""


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What the model added to one prompt."""

    token_ids: tuple[int, ...]
    """The new tokens that lie wholly before the end: neither 50256 nor any of a stop string."""
    text: str
    """The new text before 50256 or before the stop string."""
    ended: Literal["end_of_text", "stop", "length"]
    """By the token 50256, by a stop string, or because all new tokens were used up."""


def generate_text(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 8,
    first_number: int = 0,
) -> list[str]:
    """Continues every prompt: the new text only, in the prompts' order. `generate` says more.

    Args:
        model: any LanguageModel; its weights and LoRA switch count as they are at the call.
        prompts: texts or token ids, none empty.
        max_new_tokens: together with the longest prompt at most n_positions (1,024).
        sampler: Greedy(), Temperature(t), TopK(k, t), TopP(p, t), or one of your own.
        seed: any 64-bit integer. The same seed gives prompt number i the same text in batches of
            any size, up to the last bits of the scores, which may decide a near tie otherwise.
        stop: texts before which a continuation ends.
        batch_size: how many prompts are computed together.
        first_number: the first prompt's number, where those of one list come in several calls.

    Raises:
        UserError: a prompt or a stop string is empty, or something is too long or out of range.
    """
    done = generate(model, prompts, max_new_tokens, sampler, seed, stop, batch_size, first_number)
    return [continuation.text for continuation in done]


def generate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 8,
    first_number: int = 0,
) -> list[Continuation]:
    """As `generate_text`, with the text, the token ids and the reason of the end."""
    stop = checked_stop(stop)
    if isinstance(prompts, str):
        raise UserError("prompts is one text: pass a list of them")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    ids = prompt_ids(model, prompts, max_new_tokens)
    done: dict[int, Continuation] = {}
    # Prompts of like length go together, so that little is computed for padding.
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for first in range(0, len(order), batch_size):
        numbers = order[first : first + batch_size]
        rows = [Row(stop) for _ in numbers]
        chunk = STOP_CHUNK if stop else CHUNK
        batch = [ids[number] for number in numbers]
        own = [first_number + number for number in numbers]
        for _ in decode(model, batch, own, rows, max_new_tokens, sampler, seed, chunk):
            pass
        done.update((number, row.continuation()) for number, row in zip(numbers, rows, strict=True))
    return [done[number] for number in range(len(ids))]


def stream_text(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Continues one prompt and gives the text piece by piece; joined, `generate_text`'s result.

    No piece is empty or ends within a character, and what may be the beginning of a stop string is
    held back until it is known. Arguments and errors are `generate_text`'s; mistakes are raised at
    the call, not at the first piece.
    """
    row = Row(checked_stop(stop))
    ids = prompt_ids(model, [prompt], max_new_tokens)

    def pieces() -> Iterator[str]:
        sent = 0
        for _ in decode(model, ids, [0], [row], max_new_tokens, sampler, seed, STREAM_CHUNK):
            text = row.settled_text()
            if len(text) > sent:
                yield text[sent:]
                sent = len(text)

    return pieces()


class Row:
    """The continuation of one prompt while it grows."""

    def __init__(self, stop: Sequence[str]):
        self._stop = stop
        self._tokenizer = GPT2Tokenizer()
        self._ids: list[int] = []
        self._text = ""
        self.ended: Literal["end_of_text", "stop", "length"] | None = None

    def add(self, tokens: Sequence[int], last: bool) -> None:
        """Takes the next tokens, up to where the row ends; `last`: there will be no more."""
        if self.ended:
            return
        tokens = list(tokens)
        if END_OF_TEXT in tokens:
            tokens = tokens[: tokens.index(END_OF_TEXT)]
            self.ended = "end_of_text"
        elif last:
            self.ended = "length"
        self._ids += tokens
        self._text = self._tokenizer.decode(self._ids)
        place = find_stop(self._text, self._stop)
        if place is not None:
            self.ended = "stop"
            self._text = self._text[:place]
            while not self._text.startswith(self._tokenizer.decode(self._ids)):
                self._ids.pop()

    def settled_text(self) -> str:
        """The text so far without what further tokens could still change or cut off."""
        if self.ended:
            return self._text
        # Half a character decodes to one U+FFFD; so do bytes that never become one, later.
        text = self._text.removesuffix("\ufffd")
        return text[: len(text) - length_of_begun_stop(text, self._stop)]

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


def decode(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    rows: Sequence[Row],
    max_new_tokens: int,
    sampler: Sampler,
    seed: int,
    chunk: int,
) -> Iterator[None]:
    """Extends the rows by one batch's new tokens, and yields whenever some were added."""
    decoder = decoder_of(model)
    weights = decoder.weights()
    state = decoder.start(weights, prompts, numbers, sampler, seed)
    tokens, made = state.tokens.numpy()[:, np.newaxis], 1
    while True:
        for row, added in zip(rows, tokens, strict=True):
            row.add(added.tolist(), last=made == max_new_tokens)
        yield
        finished = [row.ended is not None for row in rows]
        if all(finished):
            return
        state = state._replace(finished=tf.constant(finished))
        tokens, state = decoder.extend(weights, state, sampler, min(chunk, max_new_tokens - made))
        made += tokens.shape[1]


def prompt_ids(
    model: LanguageModel, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[list[int]]:
    """The prompts as token ids.

    Raises:
        UserError: a prompt is empty, too long together with the new tokens, or holds an id that
            is not in the model's vocabulary; or max_new_tokens is below 1.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    tokenizer = GPT2Tokenizer()
    config, result = model.config.decoder, []
    for number, prompt in enumerate(prompts, start=1):
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(id) for id in prompt]
        if not ids:
            raise UserError(f"prompt {number} is empty")
        if len(ids) + max_new_tokens > config.positions:
            raise UserError(
                f"prompt {number} has {len(ids):,} tokens and {max_new_tokens:,} new ones are asked"
                f" for: {len(ids) + max_new_tokens:,} are more than the model's"
                f" {config.positions:,} positions"
            )
        if not 0 <= min(ids) <= max(ids) < config.vocabulary:
            raise UserError(f"prompt {number} holds a token id outside 0..{config.vocabulary - 1}")
        result.append(ids)
    return result


def checked_stop(stop: Sequence[str]) -> tuple[str, ...]:
    """The stop strings; one alone may be given as such.

    Raises:
        UserError: one is empty.
    """
    words = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in words:
        raise UserError("a stop string is empty: leave it out")
    return words

"""From conversations to examples of which every answer is learnt and nothing else."""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from gpt2_tuning.data.chat_template import ChatTemplate, Rendered
from gpt2_tuning.data.conversations import Messages, parsed, without_first_exchange
from gpt2_tuning.data.examples import LEARNT, Dropped, Example
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.errors import UserError

LONGEST_TOKEN = 128
"""Characters: none of GPT-2's has more, and hardly one of another."""


def conversation_examples(
    texts: Sequence[str | None],
    template: ChatTemplate,
    seq_len: int,
    where: str,
    first_row: int = 0,
) -> Iterator[Example | Dropped]:
    """One example for each conversation, or the reason why there is none.

    One that is too long loses whole exchanges from its beginning until it fits: then its example is
    `truncated`. One of which not even the last exchange fits is dropped.

    Args:
        texts: conversations as JSON text.
        template: what makes one text of them.
        seq_len: the most tokens of an example.
        where: what an error names, before the row.
        first_row: how many rows come before these.

    Raises:
        UserError: a row is no conversation, or the template refuses it.
    """
    for number, text in enumerate(texts, start=first_row + 1):
        row = f"{where}, row {number}"
        messages = parsed(text, row)
        try:
            yield conversation_example(messages, template, seq_len)
        except UserError as error:
            raise UserError(f"{row}: {error}") from error


def conversation_example(
    messages: Messages, template: ChatTemplate, seq_len: int
) -> Example | Dropped:
    """The example of a conversation; see `conversation_examples`."""
    shorter = shortenings(messages)
    for kept in shorter[least_fitting(shorter, template, seq_len) :]:
        ids, learnt = chat_ids(template.render(kept), template.tokenizer)
        example = example_of(ids, learnt, truncated=kept is not shorter[0])
        if isinstance(example, Dropped) or len(example.token_ids) <= seq_len:
            return example
    return Dropped("too long")


def shortenings(messages: Messages, answered: bool = True) -> list[Messages]:
    """A conversation, and what is left of it without its first exchange, its first two, ..."""
    found: list[Messages] = []
    kept: Messages | None = messages
    while kept is not None:
        found.append(kept)
        kept = without_first_exchange(kept, answered)
    return found


def least_fitting(
    shorter: Sequence[Messages], template: ChatTemplate, seq_len: int, prompt: bool = False
) -> int:
    """The first of ever shorter conversations that may fit: all before it are too long.

    Their tokens are counted for a few of them, since each has fewer than the one before.
    """

    def too_long(messages: Messages) -> bool:
        if sum(len(one["content"]) for one in messages) > seq_len * LONGEST_TOKEN:
            return True
        text = template.text_of(messages, prompt)
        # What follows the last answer is no part of an example.
        return len(stretch_ids(text.rstrip(), "", template.tokenizer)) > seq_len + 1

    low, high = 0, len(shorter)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if too_long(shorter[middle]) else (low, middle)
    return max(0, low - 1) if low < len(shorter) else low


def example_of(ids: list[int], learnt: np.ndarray, truncated: bool) -> Example | Dropped:
    """The example of a conversation's tokens, up to the last that is learnt."""
    learnt[:1] = False  # nothing comes before the first token that could tell it
    if not learnt.any():
        return Dropped("empty response")
    last = int(np.flatnonzero(learnt)[-1]) + 1
    extras = {
        "prompt_length": int(learnt.argmax()),
        LEARNT: learnt[:last].astype(np.uint8).tolist(),
    }
    return Example(ids[:last], extras, truncated)


def chat_ids(rendered: Rendered, tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    """A conversation's tokens, after the tokenizer's start, and bool, which of them are learnt.

    Each answer is learnt up to the token that ends it, which is put where the template has none. A
    text is tokenised in stretches that end where answers begin and end: so an answer's tokens are
    those that follow its prompt when the model writes it, whatever letters stand at the edge.

    What the template writes of special tokens are these tokens; what a message has of their letters
    are letters.
    """
    ids: list[int] = [] if tokenizer.start is None else [tokenizer.start]
    learnt = [False] * len(ids)
    edges = [0, *(edge for span in rendered.learnt for edge in span), len(rendered.text)]
    for number, (begin, stop) in enumerate(itertools.pairwise(edges)):
        answer = number % 2 == 1
        stretch = rendered.text[begin:stop]
        found = stretch_ids(stretch, rendered.hidden, tokenizer, goes_on=number > 0)
        if number == 0 and ids and found[:1] == ids:  # the template writes the start itself
            found = found[1:]
        kept = len(found)
        if answer:
            ends = [i for i, token in enumerate(found) if token == tokenizer.end]
            found = found if ends else [*found, tokenizer.end]
            kept = ends[-1] + 1 if ends else len(found)
        ids += found
        learnt += [answer and i < kept for i in range(len(found))]
    return ids, np.array(learnt, bool)


def stretch_ids(text: str, hidden: str, tokenizer: Tokenizer, goes_on: bool = False) -> list[int]:
    """The tokens of a stretch of a rendering, from which the marks in messages are taken out.

    Some tokenizers, as Llama's, put a blank space before every text. Where one goes on from another
    (`goes_on`) and has the blank itself, that is the one.
    """
    ids: list[int] = []
    first, *others = any_of(tuple(tokenizer.special_ids)).split(text)
    if goes_on and first.startswith(" ") and first.strip() and puts_blank(tokenizer):
        first = first[1:]
    for part in (first, *others):
        if part in tokenizer.special_ids:
            ids.append(tokenizer.special_ids[part])
        elif part:
            ids += tokenizer.encode(part.replace(hidden, ""))
    return ids


def puts_blank(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer puts a blank space before every text."""
    return tokenizer.continued(tokenizer.encode("a")) == " a"


@functools.lru_cache(4)
def any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """What finds special tokens in a text, the longest that fits first."""
    names = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, names))})")

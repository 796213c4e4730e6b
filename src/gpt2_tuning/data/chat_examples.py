"""From conversations to examples of which every answer is learnt and nothing else."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from gpt2_tuning.data.chat_template import ChatTemplate, Rendered
from gpt2_tuning.data.conversations import Messages, parsed, without_first_exchange
from gpt2_tuning.data.examples import LEARNT, Dropped, Example
from gpt2_tuning.data.tokenizer import Span, Tokenizer
from gpt2_tuning.errors import UserError


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
        messages: Messages | None = parsed(text, row)
        truncated = False
        while messages is not None:
            try:
                ids, learnt = learnt_tokens(template.render(messages), template.tokenizer)
            except UserError as error:
                raise UserError(f"{row}: {error}") from error
            if len(ids) <= seq_len:
                yield example_of(ids, learnt, truncated)
                break
            messages, truncated = without_first_exchange(messages), True
        else:
            yield Dropped("too long")


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


def learnt_tokens(rendered: Rendered, tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    """A conversation's tokens, after the tokenizer's start, and which of them are learnt.

    Each answer is learnt up to the token that ends it, which is put where the template has none.
    """
    ids, spans = chat_tokens(rendered, tokenizer)
    learnt = np.zeros(len(ids), bool)
    for begin, stop in rendered.learnt:
        inside = [i for i, (a, b) in enumerate(spans) if a >= begin and b <= stop and a < b]
        ends = [i for i in inside if ids[i] == tokenizer.end]
        learnt[[i for i in inside if not ends or i <= ends[-1]]] = True
    if len(ids) and learnt.any():
        last = int(np.flatnonzero(learnt)[-1])
        if ids[last] != tokenizer.end:
            ids = [*ids[: last + 1], tokenizer.end]
            learnt = np.append(learnt[: last + 1], True)
    return ids, learnt


def chat_tokens(rendered: Rendered, tokenizer: Tokenizer) -> tuple[list[int], list[Span]]:
    """The tokens of a rendering, and the characters of each.

    What the template writes of special tokens are these tokens; what a message has of their letters
    are letters, from which the mark within them is taken out again.
    """
    names = sorted(tokenizer.special_ids, key=len, reverse=True)
    ids: list[int] = []
    spans: list[Span] = []
    place = 0
    for part in re.split(f"({'|'.join(map(re.escape, names))})", rendered.text):
        if part in names:
            ids.append(tokenizer.special_ids[part])
            spans.append((place, place + len(part)))
        elif part:
            kept = np.flatnonzero([letter != rendered.hidden for letter in part])
            plain = "".join(part[i] for i in kept) if len(kept) < len(part) else part
            found, inner = tokenizer.encode_with_spans([plain])[0]
            edges = [*kept.tolist(), len(part)]
            ids += found
            spans += [(place + edges[a], place + (edges[b - 1] + 1 if b else 0)) for a, b in inner]
        place += len(part)
    if tokenizer.start is not None and ids[:1] != [tokenizer.start]:
        ids, spans = [tokenizer.start, *ids], [(0, 0), *spans]
    return ids, spans

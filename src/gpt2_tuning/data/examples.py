"""From token ids to examples: pure functions, one for each shape of task.

An example knows its own length, so nothing later has to guess where padding begins.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LEARNT = "learnt"
"""For each token of an example 1 if it is learnt, else 0, where these are not all from
`prompt_length` on."""


class Example(NamedTuple):
    """One row as the model will see it, before padding."""

    token_ids: Sequence[int]
    """1 to seq_len ids."""
    extras: Mapping[str, Any]
    """What else the task stores: `label`, or `prompt_length` and perhaps LEARNT."""
    truncated: bool = False
    """Whether tokens were cut to fit."""


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A row that gives no example."""

    reason: str
    """A few words for the report, such as `too long`."""


def text_example(ids: Sequence[int], label: int, seq_len: int) -> Example:
    """A single text with its class. A text that is too long keeps its first `seq_len` tokens.

    With seq_len 4:
        ids [10, 11, 12],         label 2 -> token_ids [10, 11, 12],     label 2
        ids [10, 11, 12, 13, 14], label 0 -> token_ids [10, 11, 12, 13], label 0, truncated

    Raises:
        ValueError: there are no tokens, so there is nothing to classify.
    """
    if not ids:
        raise ValueError("an example needs at least one token")
    return Example(ids[:seq_len], {"label": label}, truncated=len(ids) > seq_len)


def pair_example(
    premise: Sequence[int], hypothesis: Sequence[int], label: int, seq_len: int, separator: int
) -> Example:
    """Two texts with the class of the pair; see `joined_pair`.

    With seq_len 6, label 1 and separator 99:
        [10, 11],         [20, 21]         -> [10, 11, 99, 20, 21]
        [10, 11, 12, 13], [20, 21]         -> [10, 11, 12, 99, 20, 21],  truncated
        [10, 11, 12, 13], [20, 21, 22, 23] -> [10, 11, 99, 20, 21, 22],  truncated

    Raises:
        ValueError: as `joined_pair`.
    """
    ids = joined_pair(premise, hypothesis, seq_len, separator)
    return Example(ids, {"label": label}, truncated=len(ids) < len(premise) + 1 + len(hypothesis))


def joined_pair(
    premise: Sequence[int], hypothesis: Sequence[int], seq_len: int, separator: int
) -> list[int]:
    """The two texts with the separator between them, as at most `seq_len` ids.

    A pair that is too long loses the last tokens of its longer text until it fits or both are
    equally long, then of both in turn, the premise first.

    Raises:
        ValueError: a text has no tokens, or there is no room for one of each.
    """
    if not premise or not hypothesis or seq_len < 3:
        raise ValueError("a pair needs at least one token on each side, and seq_len 3")
    room = seq_len - 1
    first = min(len(premise), max(room - len(hypothesis), room // 2))
    return [*premise[:first], separator, *hypothesis[: room - first]]


class PromptTokens(NamedTuple):
    """The tokens of a prompt in three pieces, end to end."""

    head: Sequence[int]
    """What comes before the context; all tokens where there is no context."""
    context: Sequence[int] = ()
    """The tokens that hold nothing but context."""
    tail: Sequence[int] = ()
    """What comes after the context."""


def instruction_example(
    prompt: PromptTokens, response: Sequence[int], seq_len: int, end: int
) -> Example | Dropped:
    """A prompt, a response that is learnt, and the end of text that is learnt with it.

    `prompt_length` is the number of tokens before the response. A row that is too long loses the
    last tokens of its context; the first one stays, for a question about nothing has no answer.
    The rest of the prompt and the response are never cut: where they do not fit, the row is
    dropped. The cut falls between tokens, so a character of several tokens may lose its end.

    With head [10, 11], context [20, 21, 22], tail [12], response [30, 31] and end 99:
        seq_len 9 -> [10, 11, 20, 21, 22, 12, 30, 31, 99], prompt_length 6
        seq_len 8 -> [10, 11, 20, 21, 12, 30, 31, 99],     prompt_length 5, truncated
        seq_len 7 -> [10, 11, 20, 12, 30, 31, 99],         prompt_length 4, truncated
        seq_len 6 -> dropped: too long

    Raises:
        ValueError: the prompt or the response has no tokens.
    """
    if not prompt.head or not response:
        raise ValueError("an instruction example needs a prompt and a response")
    room = seq_len - len(prompt.head) - len(prompt.tail) - len(response) - 1
    if room < min(1, len(prompt.context)):
        return Dropped("too long")
    context = prompt.context[:room]
    ids = [*prompt.head, *context, *prompt.tail, *response, end]
    return Example(
        ids,
        {"prompt_length": len(ids) - len(response) - 1},
        truncated=len(context) < len(prompt.context),
    )


def text_chunks(ids: Sequence[int], seq_len: int, end: int | None) -> Iterator[Example]:
    """A document as consecutive pieces of up to `seq_len` tokens, all of them learnt.

    Only a piece's first token is not, as nothing in the piece tells what it might be: that is its
    `prompt_length`, 1. A last piece of one token would have nothing to learn, so it takes the
    token before it too.

    With seq_len 3 and end 99:
        ids [10, 11]         -> [10, 11, 99]
        ids [10, 11, 12, 13] -> [10, 11, 12], [13, 99]
        ids [10, 11, 12]     -> [10, 11], [12, 99]
        ids [10, 11, 12], end None -> [10, 11, 12]

    Args:
        ids: the document's tokens; with the end of text at least two.
        seq_len: at least 3, so that a piece can give up a token.
        end: the token that ends the document; None where it does not end here.

    Raises:
        ValueError: there is nothing to learn, or seq_len is too small.
    """
    ending = [] if end is None else [end]
    total = len(ids) + len(ending)
    if not ids or total < 2 or seq_len < 3:
        raise ValueError("a document needs two tokens, its end included, and a seq_len of 3")
    stops = [*range(seq_len, total, seq_len), total]
    if len(stops) > 1 and total - stops[-2] == 1:
        stops[-2] -= 1
    starts = [0, *stops[:-1]]
    return (
        Example(
            [*ids[start:stop], *(ending if stop == total else [])],
            {"prompt_length": 1},
        )
        for start, stop in zip(starts, stops, strict=True)
    )

"""Documents to examples, piece by piece: no document is in memory whole, nor are its tokens."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gpt2_tuning.data.documents import Documents
from gpt2_tuning.data.examples import Dropped, Example, text_chunks
from gpt2_tuning.data.tokenizer import Tokenizer, begun, id_array, shortened
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError

PIECE = 100_000
"""Characters tokenised as one: the tokeniser needs about 120 bytes of memory for each."""
GROUP = 16
"""Pieces tokenised together, on all cores."""
LONGEST = 2_000_000
"""Characters that may stand between two places where a text may be cut: no word is so long."""


class Piece(NamedTuple):
    """A stretch of a document that can be tokenised alone."""

    text: str
    last: bool
    """Whether no other piece of the document follows."""


def document_examples(
    documents: Documents, tokenizer: WordTokenizer, seq_len: int
) -> Iterator[Example | Dropped | None]:
    """The chunks of every document, as `text_chunks` has them of one that is tokenised whole.

    A blank document is None, one of a single token that does not end is dropped.

    Raises:
        UserError: a document cannot be cut, or a file changed; see `pieces`.
    """
    end = tokenizer.tokenizer.end if documents.whole else None
    held, begins = id_array(tokenizer.tokenizer), True
    for ids, last in encoded(documents, tokenizer):
        held.extend(begun(ids, tokenizer.tokenizer) if begins else ids)
        begins, start = last or (begins and not ids), 0
        # More than one token is left for what follows, so that the last chunk has two.
        while len(held) - start > seq_len + 1:
            yield Example(held[start : start + seq_len].tolist(), {"prompt_length": 1})
            start += seq_len
        del held[:start]
        if not last:
            continue
        if not held:
            yield None
        elif len(held) + documents.whole < 2:
            yield Dropped("too short")
        else:
            yield from text_chunks(held, seq_len, end)
        held = id_array(tokenizer.tokenizer)


def encoded(documents: Documents, tokenizer: WordTokenizer) -> Iterator[tuple[list[int], bool]]:
    """The tokens of every piece, on all cores, each with whether it is its document's last.

    End to end they are those of the documents tokenised whole.
    """
    for group in in_groups(pieces(documents, tokenizer.tokenizer)):
        found = tokenizer.encode_batch([piece.text for piece in group])
        for piece, ids in zip(group, found, strict=True):
            yield ids, piece.last


def pieces(documents: Documents, tokenizer: Tokenizer) -> Iterator[Piece]:
    """The pieces of all documents, in order; a blank document is one empty piece.

    Where the tokenizer says of no place that a text may be cut there, each document is one.

    Raises:
        UserError: LONGEST characters have no place where they may be cut.
    """
    blank = iter(documents.contents.blank.tolist())
    held, skipped = "", next(blank, False)
    for text, last in documents.stretches():
        if not skipped:
            held += text
            start = 0
            for stop in stops(held, tokenizer):
                yield Piece(held[start:stop], False)
                start = stop
            held = held[start:]
            if tokenizer.cuts and len(held) > LONGEST:
                raise UserError(
                    f"a text has more than {LONGEST:,} letters, digits, signs or blanks in a row,"
                    f" which are no words: take them out ({shortened(held)})"
                )
        if last:
            yield Piece(held, True)
            held, skipped = "", next(blank, False)


def stops(text: str, tokenizer: Tokenizer) -> Iterator[int]:
    """Where a text is cut into pieces."""
    start = 0
    while tokenizer.cuts and len(text) - start > PIECE:
        found = tokenizer.cuts.search(text, start + PIECE)
        if not found:
            return
        start = found.start()
        yield start


def in_groups(items: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in groups that together have few enough characters."""
    group: list[Piece] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item.text)
        if size >= GROUP * PIECE:
            yield group
            group, size = [], 0
    if group:
        yield group

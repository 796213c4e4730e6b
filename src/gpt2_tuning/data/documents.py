"""Documents of plain text: from files or a column of rows, cut into splits, tokenised.

A file is a document, however long, unless a separator divides it. So there may be very few, and
the last stretch of each is then set aside instead of whole documents.
"""

import itertools
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from gpt2_tuning.data.column_names import naming_flags
from gpt2_tuning.data.columns import unix_newlines
from gpt2_tuning.data.given_files import PLAIN, SPLITS
from gpt2_tuning.data.reading import Reading, notes_on
from gpt2_tuning.data.row_files import check_file, rows_of_file
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.sources import (
    CUT,
    OpenedRows,
    Source,
    limited,
    row_counts,
    with_all_splits,
)
from gpt2_tuning.data.splits import SHARE, fingerprint
from gpt2_tuning.data.text_files import read_text
from gpt2_tuning.data.tokenizer import begun, id_array
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import inner_suffix

if TYPE_CHECKING:
    from gpt2_tuning.options.preparation import DatasetOptions

TEXT = "text"
"""The column of documents, whatever it was called where they come from."""
ENDS = "ends"
"""Column that says whether a text goes to its document's end; without it all do."""
FEW = 20
"""With fewer documents than this, a tenth of them would say little about the others."""
CUT_ENDS = "end of train documents"
"""The origin of a split that was cut so."""

PIECE = 100_000
"""Characters tokenised as one: the tokeniser needs about 120 bytes of memory for each."""
GROUP = 16
"""Pieces tokenised together, on all cores."""
BREAK = re.compile(r"(?<=\S)(?=[ \n])")
"""Where no token of a tokenizer by words crosses: it may begin with blank space but never goes on
with it."""


def read_documents(
    opened: OpenedRows,
    options: "DatasetOptions",
    end_text: str,
    text_column: str,
    separator: str | None = None,
) -> Source:
    """The documents of a data set, in three splits with the column `text` (and maybe `ends`).

    Splits that are missing are cut from train: whole documents, or, where train has fewer than
    FEW different ones, the last tenth of each for test and the tenth before it for validation.

    Args:
        opened: from `sources.open_rows`; its files may be plain text (.txt) too.
        options: the seed of the cut and the limit.
        end_text: what ends a text, as texts may hold it in letters, which is counted.
        text_column: column of the documents, where there are columns.
        separator: what stands between the documents of one text, if a text has several.

    Raises:
        UserError: the texts cannot be read, or hold nothing.
    """
    with naming_flags(options):
        splits = read_splits(opened, text_column)
    if separator:
        splits = {split: separated(rows, separator) for split, rows in splits.items()}
    origins = dict.fromkeys(splits, "given")
    missing = [split for split in SPLITS if split not in splits]
    if missing and has_few(splits["train"]):
        splits = {**splits, **cut_ends(splits["train"], missing)}
        origins.update(dict.fromkeys(missing, CUT_ENDS))
    splits = with_all_splits(splits, [TEXT], None, options.seed)
    if options.limit is not None:
        splits = {
            split: limited(rows, [TEXT], None, options.limit, options.seed)
            for split, rows in splits.items()
        }
    return Source(
        splits=splits,
        name=opened.name,
        kind=opened.kind,
        fingerprint=fingerprint(splits, [TEXT], None),
        origins={split: origins.get(split, CUT) for split in splits},
        label_names=None,
        counts=row_counts(splits, [TEXT], end_text),
        notes=opened.notes,
    )


def has_columns(opened: OpenedRows) -> bool:
    """Whether there are rows with columns, by the first file of train.

    Raises:
        UserError: that file cannot be read.
    """
    if opened.hub:
        return True
    first = opened.files["train"][0]
    check_file(first, [PLAIN])
    return inner_suffix(first) != PLAIN


def read_splits(opened: OpenedRows, text_column: str) -> dict[str, Rows]:
    """The documents of the splits that are given. Raises UserError as `read_documents` does."""
    if opened.files:
        return {
            split: as_rows(read_texts(paths, text_column, opened.reading, opened.notes))
            for split, paths in opened.files.items()
        }
    found = opened.read([text_column])
    return {split: rows.renamed(text_column, TEXT) for split, rows in found.items()}


def read_texts(
    paths: Sequence[Path], text_column: str, reading: Reading, notes: list[str]
) -> list[str]:
    """The texts of files, of a .txt file the whole; what they were read as is added to the notes.

    Raises:
        UserError: a file cannot be read.
    """
    texts: list[str] = []
    remarks: dict[str, list[str]] = {}
    for path in paths:
        check_file(path, [PLAIN])
        found = remarks.setdefault(path.name, [])
        if inner_suffix(path) == PLAIN:
            texts.append(unix_newlines(read_text(path, reading.encoding, found)))
        else:
            rows = rows_of_file(path, [text_column], None, reading, found)
            texts += [text or "" for text in rows[text_column]]
    notes += notes_on(remarks)
    return texts


def as_rows(texts: Sequence[str]) -> Rows:
    """Texts as rows."""
    return Rows.of(**{TEXT: pa.array(texts, pa.large_string())})


def separated(rows: Rows, separator: str) -> Rows:
    """The texts divided at each separator, without the line breaks around it and blank parts.

    Raises:
        UserError: nothing is left.
    """
    parts = (part.strip("\n") for text in rows[TEXT] for part in (text or "").split(separator))
    kept = [part for part in parts if part.strip()]
    if not kept:
        raise UserError(f"there is no text between the separators {separator!r}")
    return as_rows(kept)


def has_few(rows: Rows) -> bool:
    """Whether there are fewer than FEW different documents."""
    seen = set()
    for text in itertools.chain.from_iterable(batch[TEXT] for batch in rows.batches(size=100)):
        seen.add(text)
        if len(seen) == FEW:
            return False
    return True


def cut_ends(train: Rows, missing: Sequence[str]) -> dict[str, Rows]:
    """Cuts a tenth of each document off its end for each missing split, the last one for the last.

    With "validation" and "test" missing, a document of 100 lines gives lines 1-80 to train, 81-90
    to validation and 91-100 to test. No text is in two of them.
    """
    names = ["train", *missing]
    parts: dict[str, list[str]] = {name: [] for name in names}
    for text in train[TEXT]:
        stops = [
            break_before(text, round(len(text) * (1 - SHARE * left)))
            for left in range(len(missing), 0, -1)
        ]
        for name, start, stop in zip(names, [0, *stops], [*stops, len(text)], strict=True):
            parts[name].append(text[start:stop])
    return {
        name: as_rows(texts).with_column(ENDS, [name == names[-1]] * len(texts))
        for name, texts in parts.items()
    }


def break_before(text: str, place: int) -> int:
    """The last line break shortly before a place in a text, or else space, or else the place."""
    for mark in "\n ":
        found = text.rfind(mark, max(0, place - len(text) // 20), place)
        if found >= 0:
            return found
    return place


def encode_documents(rows: Rows, tokenizer: WordTokenizer) -> Iterator[tuple[array, bool]]:
    """Each document's tokens, as if tokenised whole, and whether they go to its end.

    A blank document has no tokens. Long ones are tokenised piece by piece, in little memory and
    on all cores, where the tokenizer works by words.

    Yields:
        Tokens, as `id_array` holds them, and the value of column `ends`.
    """
    ids = id_array(tokenizer.tokenizer)
    for group in in_groups(pieces(rows, tokenizer.tokenizer.by_words)):
        encoded = tokenizer.encode_batch([piece.text for piece in group])
        for piece, found in zip(group, encoded, strict=True):
            ids.extend(found if ids else begun(found, tokenizer.tokenizer))
            if piece.last:
                yield ids, piece.ends
                ids = id_array(tokenizer.tokenizer)


class Piece(NamedTuple):
    """A stretch of a document that can be tokenised alone."""

    text: str
    last: bool  # whether no other piece of the document follows
    ends: bool  # whether the document ends with the last piece


def pieces(rows: Rows, divided: bool) -> Iterator[Piece]:
    """The pieces of all documents, in order; a blank document is one empty piece.

    Each document is one, however long, unless they are to be `divided`.
    """
    for batch in rows.batches(size=100):
        ends = batch.get(ENDS, [True] * len(batch[TEXT]))
        for text, end in zip(batch[TEXT], ends, strict=True):
            text = text if text and text.strip() else ""
            start, most = 0, PIECE if divided else len(text)
            while len(text) - start > most and (found := BREAK.search(text, start + most)):
                yield Piece(text[start : found.start()], False, end)
                start = found.start()
            yield Piece(text[start:], True, end)


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

"""Documents of plain text: where each lies in the texts that hold it, and how splits are cut.

A file is a document, however long, unless a separator divides it. So there may be very few, and
the last stretch of each is then set aside instead of whole documents. They are never in memory
whole: what is asked of them all is found by reading the texts again.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpt2_tuning.data.column_names import naming_flags
from gpt2_tuning.data.given_files import PLAIN, SPLITS
from gpt2_tuning.data.opened_rows import OpenedRows
from gpt2_tuning.data.row_files import check_file
from gpt2_tuning.data.separators import separated
from gpt2_tuning.data.sources import CUT, Source
from gpt2_tuning.data.splits import (
    QUOTED,
    ROW_DIGEST,
    SHARE,
    add_to_fingerprint,
    cut_rows,
    limited_rows,
)
from gpt2_tuning.data.texts import TEXT, Stretch, Texts, read_texts
from gpt2_tuning.data.tokenizer import default_tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import inner_suffix

if TYPE_CHECKING:
    from gpt2_tuning.options.preparation import DatasetOptions

FEW = 20
"""With fewer documents than this, a tenth of them would say little about the others."""
CUT_ENDS = "end of train documents"
"""The origin of a split that was cut so."""


class Contents(NamedTuple):
    """What is to be known of documents' texts; row i is of document i."""

    digests: list[bytes]
    """As `splits.row_digests` has them."""
    written: np.ndarray
    """bool[documents]: whether it holds the letters of the end of text."""
    blank: np.ndarray
    """bool[documents]: whether it holds nothing but blank space."""


@dataclasses.dataclass(eq=False)
class Documents:
    """Documents, or parts of them, in the order in which the texts hold them."""

    texts: Texts
    places: np.ndarray
    """int64[documents, 3]: which text it lies in, its first character there, and the one after its
    last."""
    end_text: str = dataclasses.field(default_factory=lambda: default_tokenizer().end_text)
    """What ends a text, as texts may hold it in letters."""
    whole: bool = True
    """Whether each goes to its document's end."""

    def __len__(self) -> int:
        return len(self.places)

    def stretches(self) -> Iterator[tuple[str, bool]]:
        """Every document's text in stretches, each with whether it is the document's last.

        An empty document is one empty stretch.

        Raises:
            UserError: a file changed since the places in it were found.
        """
        found = self.texts.stretches()
        stretch: Stretch | None = Stretch(-1, 0, "")
        for number, start, stop in self.places.tolist():
            place = start
            while place < stop:
                while stretch and (stretch.number, stretch.stop) < (number, place + 1):
                    stretch = next(found, None)
                if not stretch or stretch.number > number:
                    raise UserError("a file of texts was changed while it was read: start again")
                text = stretch.text[place - stretch.start : stop - stretch.start]
                place += len(text)
                yield text, place == stop
            if start == stop:
                yield "", True

    @functools.cached_property
    def contents(self) -> Contents:
        """What is known of their texts. Reads them all once; raises as `stretches` does."""
        found = Contents([], np.zeros(len(self), bool), np.ones(len(self), bool))
        digest, before = ROW_DIGEST(b'["'), ""
        for text, last in self.stretches():
            row = len(found.digests)
            # What row_digests makes of a whole text, whose JSON is that of its stretches.
            digest.update(QUOTED(text)[1:-1].encode())
            found.written[row] |= self.end_text in before + text
            found.blank[row] &= not text.strip()
            before = (before + text)[1 - len(self.end_text) :]
            if last:
                digest.update(b'"]')
                found.digests.append(digest.digest())
                digest, before = ROW_DIGEST(b'["'), ""
        return found

    def select(self, numbers: Sequence[int]) -> "Documents":
        """Some of the documents, by their numbers, which must ascend."""
        chosen = dataclasses.replace(self, places=self.places[numbers])
        digests, written, blank = self.contents
        chosen.contents = Contents([digests[i] for i in numbers], written[numbers], blank[numbers])
        return chosen


def read_documents(
    opened: OpenedRows,
    options: "DatasetOptions",
    end_text: str,
    text_column: str,
    separator: str | None = None,
) -> Source[Documents]:
    """The documents of a data set, in three splits.

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
        texts = read_splits(opened, text_column)
    splits = {split: found_documents(found, separator, end_text) for split, found in texts.items()}
    origins = dict.fromkeys(splits, "given")
    missing = [split for split in SPLITS if split not in splits]
    train = splits["train"]
    if missing and has_few(train):
        splits.update(cut_ends(train, missing))
        origins.update(dict.fromkeys(missing, CUT_ENDS))
    elif missing:
        parts = cut_rows(train.contents.digests, None, missing, options.seed)
        splits.update({split: train.select(part) for split, part in parts.items()})
    splits = {split: limited(splits[split], options) for split in SPLITS}
    written = {split: found.contents.written.sum() for split, found in splits.items()}
    return Source(
        splits=splits,
        name=opened.name,
        kind=opened.kind,
        fingerprint=fingerprint(splits),
        origins={split: origins.get(split, CUT) for split in splits},
        label_names=None,
        counts={split: {"end_of_text_written": int(count)} for split, count in written.items()},
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


def read_splits(opened: OpenedRows, text_column: str) -> dict[str, Texts]:
    """The texts of the splits that are given. Raises UserError as `read_documents` does."""
    if opened.files:
        return {
            split: read_texts(paths, text_column, opened.reading, opened.notes)
            for split, paths in opened.files.items()
        }
    found = opened.read([text_column])
    return {split: Texts([rows.renamed(text_column, TEXT)]) for split, rows in found.items()}


def found_documents(
    texts: Texts, separator: str | None = None, end_text: str | None = None
) -> Documents:
    """The documents of texts: each a whole one, or what lies between the separators in it.

    Line breaks around a separator belong to no document, and blank parts are none.

    Raises:
        UserError: nothing is left between the separators.
    """
    if separator is None:
        found = [(stretch.number, 0, stretch.stop) for stretch in last_stretches(texts)]
    else:
        found = list(separated(texts, separator))
        if not found:
            raise UserError(f"there is no text between the separators {separator!r}")
    places = np.array(found, np.int64)
    return Documents(texts, places, end_text or default_tokenizer().end_text)


def last_stretches(texts: Texts) -> Iterator[Stretch]:
    """The last stretch of each text."""
    last = None
    for stretch in texts.stretches():
        if last and last.number != stretch.number:
            yield last
        last = stretch
    if last:
        yield last


def has_few(documents: Documents) -> bool:
    """Whether there are fewer than FEW different documents."""
    return len(documents) < FEW or len(set(documents.contents.digests)) < FEW


def cut_ends(train: Documents, missing: Sequence[str]) -> dict[str, Documents]:
    """Cuts a tenth of each document off its end for each missing split, the last one for the last.

    With "validation" and "test" missing, a document of 100 lines gives lines 1-80 to train, 81-90
    to validation and 91-100 to test. No text is in two of them.
    """
    numbers, starts, stops = train.places.T
    shares = [1 - SHARE * left for left in range(len(missing), 0, -1)]
    sizes = (stops - starts).tolist()
    cuts = np.array([[round(size * share) for share in shares] for size in sizes], np.int64)
    cuts += starts[:, np.newaxis]
    cuts = breaks_before(train.texts, numbers, cuts, (stops - starts) // 20)
    bounds = [starts, *cuts.T, stops]
    return {
        name: dataclasses.replace(
            train,
            places=np.stack([numbers, bounds[place], bounds[place + 1]], axis=1),
            whole=place == len(missing),
        )
        for place, name in enumerate(["train", *missing])
    }


def breaks_before(
    texts: Texts, numbers: np.ndarray, places: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """The last line break shortly before places in texts, or else space, or else the place.

    Args:
        texts: the texts.
        numbers: int64[documents]: in which of them a document lies.
        places: int64[documents, places]: ascending.
        back: int64[documents]: how far before the places is looked.

    Returns:
        int64[documents, places].
    """
    starts = places - back[:, np.newaxis]
    windows = np.stack([np.broadcast_to(numbers[:, np.newaxis], places.shape), starts, places], -1)
    found = []
    line = space = passed = 0  # characters up to and with the last one of each
    for text, last in Documents(texts, windows.reshape(-1, 3)).stretches():
        line = passed + text.rindex("\n") + 1 if "\n" in text else line
        space = passed + text.rindex(" ") + 1 if " " in text else space
        passed += len(text)
        if last:
            found.append((line or space or passed + 1) - 1)
            line = space = passed = 0
    return starts + np.array(found, np.int64).reshape(places.shape)


def limited(documents: Documents, options: "DatasetOptions") -> Documents:
    """The documents, or as many of them as the flags want."""
    if options.limit is None or len(documents) <= options.limit:
        return documents
    digests = documents.contents.digests
    return documents.select(limited_rows(digests, None, options.limit, options.seed))


def fingerprint(splits: dict[str, Documents]) -> str:
    """What `splits.fingerprint` gives for rows of these texts."""
    total = hashlib.sha256()
    for split, documents in splits.items():
        add_to_fingerprint(total, split, documents.contents.digests, [TEXT])
    return total.hexdigest()

"""Texts that are read a stretch at a time, as often as is asked, so that no file is in memory.

Where a stretch ends says nothing; what a text is follows from all of its stretches.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from gpt2_tuning.data.columns import unix_newlines
from gpt2_tuning.data.given_files import PLAIN
from gpt2_tuning.data.reading import Reading, notes_on
from gpt2_tuning.data.row_files import check_file, rows_of_file
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.data.text_files import opened_text
from gpt2_tuning.file_names import inner_suffix

TEXT = "text"
"""The column of texts, whatever it was called where they come from."""
STRETCH = 1 << 20
"""Characters of a file that are in memory at the same time."""


class Stretch(NamedTuple):
    """A part of a text."""

    number: int
    """Which of the texts it is of."""
    start: int
    """How many characters of that come before it."""
    text: str

    @property
    def stop(self) -> int:
        """How many characters of the text there are up to its end."""
        return self.start + len(self.text)


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Texts in their order: files, each of which is one, and rows that were read already."""

    parts: Sequence[Path | Rows]
    """Plain text files, and rows with a column TEXT, where none counts as empty."""
    encoding: str | None = None
    """As in `text_files.opened_text`."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """Texts that are in memory."""
        return cls([as_rows(texts)])

    def stretches(self) -> Iterator[Stretch]:
        """All texts from the beginning, each as one stretch or several.

        Raises:
            UserError: a file cannot be read as text.
        """
        number = 0
        for part in self.parts:
            if isinstance(part, Path):
                start = 0
                for text in file_stretches(part, self.encoding):
                    yield Stretch(number, start, text)
                    start += len(text)
                number += 1
                continue
            for batch in part.batches([TEXT], size=100):
                for number, text in enumerate(batch[TEXT], start=number):  # noqa: B020
                    yield Stretch(number, 0, text or "")
                number += 1


def file_stretches(path: Path, encoding: str | None) -> Iterator[str]:
    """A file's text with Unix's line ends, in stretches, of which there is at least one."""
    held = ""
    with opened_text(path, encoding, []) as file:
        while read := file.read(STRETCH):
            text = held + read
            held = "\r" if text.endswith("\r") else ""  # a \n may follow
            yield unix_newlines(text.removesuffix(held))
    yield held


def read_texts(
    paths: Sequence[Path], text_column: str, reading: Reading, notes: list[str]
) -> Texts:
    """The texts of files, of a .txt file the whole; what they are read as is added to the notes.

    Raises:
        UserError: a file cannot be read. Of a plain one only the beginning is looked at.
    """
    parts: list[Path | Rows] = []
    remarks: dict[str, list[str]] = {}
    for path in paths:
        check_file(path, [PLAIN])
        found = remarks.setdefault(path.name, [])
        if inner_suffix(path) == PLAIN:
            with opened_text(path, reading.encoding, found):
                parts.append(path)
        else:
            rows = rows_of_file(path, [text_column], None, reading, found)
            parts.append(rows.renamed(text_column, TEXT))
    notes += notes_on(remarks)
    return Texts(parts, reading.encoding)


def as_rows(texts: Sequence[str]) -> Rows:
    """Texts as rows."""
    return Rows.of(**{TEXT: pa.array(texts, pa.large_string())})

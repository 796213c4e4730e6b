"""Local files as text: whatever they are compressed with, in the encoding that they have."""

import codecs
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pyarrow as pa

from gpt2_tuning.errors import UserError

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""What is known by the first bytes of a file."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's mark, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The encodings that a mark at the beginning tells, by codecs that take it away."""
PLAIN = "utf-8-sig"
"""UTF-8, with or without its mark."""
BUFFER = 1 << 20
NULS = 0.2
"""The share of zero bytes from which UTF-16 without a mark is likely."""
ALONE = 0.5
"""The share of bytes above 127 that stand alone from which a Western language is likely."""


def compression_of(path: Path) -> str | None:
    """What a file is compressed with, by its first bytes; None where it is not."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for mark, name in COMPRESSIONS.items() if head.startswith(mark)), None)


@contextlib.contextmanager
def opened_bytes(path: Path, compression: str | None) -> Iterator[BinaryIO]:
    """Yields what a file holds, decompressed. Raises UserError where that is cut short."""
    if compression is None:
        with path.open("rb") as file:
            yield file
        return
    try:
        with pa.input_stream(str(path), compression=compression, buffer_size=BUFFER) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot decompress {path}: it is cut short or damaged") from error


@contextlib.contextmanager
def opened_text(path: Path, encoding: str | None, remarks: list[str]) -> Iterator[TextIO]:
    r"""Yields the text of a file, with its line ends as they are.

    Args:
        path: of a file that is there.
        encoding: its encoding, where a flag gives one.
        remarks: what was not the plain case is added.

    Raises:
        UserError: it is not in that encoding, or compressed and damaged.
    """
    compression = compression_of(path)
    with opened_bytes(path, compression) as file:
        head = file.read(4)
    found = codec_of(head, encoding)
    if found == PLAIN and b"\0" in head:  # else its letters would pass for UTF-8 ones
        raise UserError(unlike_utf8(path, "", likely_encoding(head)))
    if compression:
        remarks.append(compression)
    if found != PLAIN:
        remarks.append(found.upper())
    with opened_bytes(path, compression) as file:
        text = io.TextIOWrapper(file, encoding=found, newline="")
        try:
            yield text
        except UnicodeError as error:
            raise UserError(
                undecodable(path, found, error, None if compression else file)
            ) from error


def codec_of(head: bytes, encoding: str | None) -> str:
    """The codec of a file's text, by its first bytes and the flag."""
    marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding is None:
        return marked or PLAIN
    given = codecs.lookup(encoding).name
    # The codecs that name an order of bytes, or none, would read the mark as a character.
    if marked and given.startswith(marked.removesuffix("-sig")):
        return marked
    return PLAIN if given == "utf-8" else given


def undecodable(path: Path, codec: str, error: UnicodeError, file: BinaryIO | None) -> str:
    """Says that a file is in another encoding, and in which it may be.

    Args:
        path: the file.
        codec: what it was read by.
        error: the codec's.
        file: what the codec read from, where its place is that of the file.
    """
    name = "UTF-8" if codec == PLAIN else codec.upper()
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 that ends or begins amiss
        return f"{path} is not {name} text: give --encoding what it is"
    place = ""
    if file is not None:
        start = file.tell() - len(error.object) + error.start
        place = f" (byte {start + 1})"
    if codec != PLAIN:
        return f"{path} is not {name} text{place}: give --encoding what it is"
    return unlike_utf8(path, place, likely_encoding(error.object))


def unlike_utf8(path: Path, place: str, guess: str | None) -> str:
    """Says that a file is not UTF-8, at a place, and in which encoding it may be."""
    found = f" but {guess}, it seems" if guess else ""
    return (
        f"{path} is not UTF-8 text{place}{found}: save it as UTF-8, or prepare it with"
        f" --encoding {guess or 'and the name of what it is'}"
    )


def likely_encoding(content: bytes) -> str | None:
    """The encoding that bytes which are not UTF-8 are most likely in; None where many are."""
    odd, even = content[1::2], content[::2]
    for half, name in ((odd, "utf-16-le"), (even, "utf-16-be")):
        if half.count(0) > NULS * len(half):
            return name
    high = [byte > 127 for byte in content]
    alone = sum(
        byte and not before and not after
        for before, byte, after in zip([False, *high], high, [*high[1:], False], strict=False)
    )
    # Letters with accents stand among others; those of other scripts stand together.
    if alone < ALONE * sum(high):
        return None
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "cp1252"


def read_text(path: Path, encoding: str | None, remarks: list[str]) -> str:
    """The whole text of a file. Arguments and errors are those of `opened_text`."""
    with opened_text(path, encoding, remarks) as file:
        return cast(str, file.read())

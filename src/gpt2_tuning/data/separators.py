"""Texts that hold several documents, with a separator between them, read a stretch at a time."""

from collections.abc import Iterator

from gpt2_tuning.data.texts import Texts


def separated(texts: Texts, separator: str) -> Iterator[tuple[int, int, int]]:
    """The places of the parts between separators, without the line breaks around them."""
    part, held, of = Part(), "", -1
    for number, start, text in texts.stretches():
        if number != of:
            part.add(held)
            yield from part.places(of)
            part, held, of = Part(), "", number
        *parts, rest = (held + text).split(separator)
        place = start - len(held)
        for inner in parts:
            part.add(inner)
            yield from part.places(number)
            place += len(inner) + len(separator)
            part = Part(place)
        # The beginning of a separator may be at the end of the rest.
        sure = max(0, len(rest) - len(separator) + 1)
        part.add(rest[:sure])
        held = rest[sure:]
    part.add(held)
    yield from part.places(of)


class Part:
    """What lies between two separators, read stretch by stretch."""

    def __init__(self, start: int = 0) -> None:
        self.stop = start
        self.first: int | None = None
        self.last = start
        self.blank = True

    def add(self, text: str) -> None:
        """Goes on with a stretch."""
        self.blank = self.blank and not text.strip()
        if inner := text.strip("\n"):
            if self.first is None:
                self.first = self.stop + text.index(inner)
            self.last = self.stop + len(text.rstrip("\n"))
        self.stop += len(text)

    def places(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Where it lies in text `number`, unless it is blank."""
        if self.first is not None and not self.blank:
            yield number, self.first, self.last

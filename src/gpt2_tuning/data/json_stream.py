"""JSON values one after another in a stream of text, with little more than one in memory."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from gpt2_tuning.errors import UserError

CHUNK = 1 << 20
"""Characters that are read at once, at least."""
BLANK = re.compile(r"[ \t\r\n]*")
COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
CUT_SHORT = 16
"""How near to the end of what was read lies what more of it may mend: a literal's length."""


class RepeatedKeyError(ValueError):
    """An object has a key twice; the message is the key."""


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which Python alone would keep the last value of a repeated key."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return row


DECODER = json.JSONDecoder(
    object_pairs_hook=with_unique_keys,
    parse_constant={"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}.get,
)


class JsonStream:
    """A file's JSON values, or its lines.

    Args:
        file: its text.
        path: what messages call it.
    """

    def __init__(self, file: TextIO, path: Path):
        self._file, self.path = file, path
        self._text, self._place = "", 0
        self._line, self._column = 1, 0
        """Where the text that is held begins: its line, and how many characters come before."""
        self._ended = False

    @property
    def line(self) -> int:
        """The line of what comes next, counted from 1."""
        return self._line + self._text.count("\n", 0, self._place)

    def next_character(self) -> str:
        """The next character that is not blank, which stays; empty at the end."""
        while True:
            found = BLANK.match(self._text, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Leaves out the next character."""
        self._place += 1

    def skip_comma(self) -> bool:
        """Leaves out a comma and the blanks around it; whether there was one."""
        found = COMMA.match(self._text, self._place)
        if found and found.end() < len(self._text):
            self._place = found.end()
            return True
        if self.next_character() != ",":
            return False
        self.skip()
        self.next_character()
        return True

    def value(self) -> Any:
        """The next value. Raises UserError where there is none."""
        while True:
            try:
                found, self._place = DECODER.raw_decode(self._text, self._place)
                return found
            except json.JSONDecodeError as error:
                unended = error.msg.startswith("Unterminated string")
                near = unended or error.pos > len(self._text) - CUT_SHORT
                if near and self._read_on():
                    continue
                raise UserError(self._unparsed(error.msg, error.pos)) from error
            except (RepeatedKeyError, ValueError, RecursionError) as error:
                raise UserError(said_of(error, f"{self.path}, line {self.line}")) from error

    def lines_left(self) -> Iterator[tuple[int, str]]:
        """The number and the text of each line from here on; nothing can be read behind them.

        Not what splitlines() takes for one: a JSON string may hold U+2028 and its like unescaped.
        """
        number, left = self.line, self._text[self._place :]
        while True:
            *whole, left = left.split("\n")
            yield from enumerate(whole, start=number)
            number += len(whole)
            more = self._file.read(max(CHUNK, len(left)))
            if not more:
                yield number, left
                return
            left += more

    def unexpected(self, what: str) -> UserError:
        """What to raise where the next character is not one that may come."""
        return UserError(self._unparsed(what, self._place))

    def _unparsed(self, what: str, place: int) -> str:
        """Says what is wrong at a place of the text that is held."""
        line = self._line + self._text.count("\n", 0, place)
        begun = self._text.rfind("\n", 0, place) + 1
        column = place - begun + 1 + (0 if begun else self._column)
        return f"cannot parse {self.path}: {what} at line {line}, column {column}"

    def _read_on(self) -> bool:
        """Reads further text behind what is left; whether there was any."""
        # As much again as is held, so that a long value is not tried often.
        more = "" if self._ended else self._file.read(max(CHUNK, len(self._text) - self._place))
        if not more:
            self._ended = True
            return False
        begun = self._text.rfind("\n", 0, self._place) + 1
        self._column = self._place - begun + (0 if begun else self._column)
        self._line += self._text.count("\n", 0, self._place)
        self._text, self._place = self._text[self._place :] + more, 0
        return True


def parsed_line(text: str, path: Path, line: int) -> Any:
    """The value of one line. Raises UserError where it is none."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {line}, column {error.colno}"
        raise UserError(f"cannot parse {path}: {error.msg} at {where}") from error
    except (RepeatedKeyError, ValueError, RecursionError) as error:
        raise UserError(said_of(error, f"{path}, line {line}")) from error


def said_of(error: Exception, where: str) -> str:
    """What is wrong with a value whose form is right."""
    if isinstance(error, RepeatedKeyError):
        return f"{where}: an object has the key {str(error)!r} twice: rename or remove one of them"
    if isinstance(error, RecursionError):
        return f"{where}: lists or objects lie in each other too deep to be read"
    return f"{where}: a number has too many digits to be read"

"""Markdown of reports in which names and texts of the data stand: they are shown as they are."""

import html
import re
from collections.abc import Iterable, Sequence

MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown, GitHub's mathematics among it, would take for its own. An underscore inside a word
is none."""
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def escaped(text: str) -> str:
    r"""A text in one line, of which neither Markdown nor HTML takes anything for markup.

    `a|b` becomes `a\|b`, `<b>` becomes `&lt;b&gt;`, a newline a blank.
    """
    line = BLANKS.sub(" ", text).strip()
    return html.escape(MARKUP.sub(r"\\\g<0>", line), quote=False)


def excerpt(text: str, limit: int) -> str:
    """The beginning of a text, escaped: at most `limit` characters, cut between words if it can.

    `limit` is counted before escaping, without the … that stands for what was cut.
    """
    line = BLANKS.sub(" ", text).strip()
    if len(line) <= limit:
        return escaped(line)
    cut = line[: limit + 1].rpartition(" ")[0]
    return escaped(cut if len(cut) > limit // 2 else line[:limit]) + "…"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

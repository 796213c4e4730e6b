"""Whatever a text holds, a Markdown reader shows it as it is, in its own cell."""

import pytest
from markdown_it import MarkdownIt

from gpt2_tuning.markdown import escaped, excerpt, table

HOSTILE = [
    "a | b || c",
    "two\nlines\r\n\tand\x0bmore\x00",
    "`code` and ``more``",
    "<script>alert(1)</script> <!-- c --> <b>&amp;</b> a < b && c",
    "*bold* __init__ _em_ snake_case ~~gone~~ # 1. - x",
    "[link](http://x) ![image](y.png) [x]: z",
    r"a \| b \\ \` \<",
    "$x_1$ and $$y$$",
    "🙂 é 汉字 \u2028 \ufffd",
]


def cells(text):
    """The kinds of inline tokens in the cells of a table, and their texts."""
    found = []
    for token in MarkdownIt().enable(["table", "strikethrough"]).parse(text):
        if token.type == "inline":
            kinds = {child.type for child in token.children or []}
            found.append((kinds, "".join(child.content for child in token.children or [])))
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is_in_one_cell(text):
    shown = cells(table(["text", "label"], [[escaped(text), "yes"]]))
    assert [content for _, content in shown] == ["text", "label", one_line(text), "yes"]
    assert shown[2][0] <= {"text", "text_special"}


def one_line(text):
    return " ".join(text.replace("\x00", " ").split())


def test_underscores_inside_words_need_no_escape():
    assert escaped("not_entailment") == "not_entailment"
    assert escaped("__init__") == r"\_\_init\_\_"


def test_an_excerpt_is_cut_between_words_and_counted_before_escaping():
    assert excerpt("one two three", 13) == "one two three"
    assert excerpt("one two three", 12) == "one two…"
    assert excerpt("one two three", 7) == "one two…"
    assert excerpt("x" * 30, 10) == "x" * 10 + "…"
    assert excerpt("||||", 3) == r"\|\|\|…"

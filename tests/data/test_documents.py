"""Documents: cut without overlap, and tokenised in pieces as they would be whole."""

import random

import pytest

from gpt2_tuning.data import documents
from gpt2_tuning.data.documents import as_rows, break_before, cut_ends, encode_documents, has_few
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.data.words import WordTokenizer

WORDS = [
    "a",
    "word",
    "don't",
    "日本語",
    "🎉",
    "é",
    "\n",
    "\n\n",
    " ",
    "  ",
    "\t",
    "\u00a0",
    "\u3000",
    "\x1c",
    "\u2028",
    "123",
    "!?",
    "<|endoftext|>",
    "\r\n",
    "'s",
    "x\n y",
]


def encoded(texts):
    words = WordTokenizer(GPT2Tokenizer())
    return [(list(ids), ends) for ids, ends in encode_documents(as_rows(texts), words)]


@pytest.mark.parametrize("piece", [1, 7, 50])
def test_tokens_of_pieces_are_those_of_the_whole_document(piece, monkeypatch):
    monkeypatch.setattr(documents, "PIECE", piece)
    monkeypatch.setattr(documents, "GROUP", 3)
    generator = random.Random(piece)
    texts = ["".join(generator.choices(WORDS, k=200)) for _ in range(60)] + ["", " \n", "word"]
    assert encoded(texts) == [
        (GPT2Tokenizer().encode(text) if text.strip() else [], True) for text in texts
    ]


def test_long_documents_are_tokenised_in_small_groups(monkeypatch):
    sizes = []
    real = GPT2Tokenizer.encode_batch

    def spy(self, texts):
        sizes.append(sum(map(len, texts)))
        return real(self, texts)

    monkeypatch.setattr(GPT2Tokenizer, "encode_batch", spy)
    monkeypatch.setattr(documents, "PIECE", 1000)
    monkeypatch.setattr(documents, "GROUP", 4)
    text = "some words of text\n" * 5000
    assert encoded([text]) == [(GPT2Tokenizer().encode(text), True)]
    assert max(sizes[:-1]) < 6000


@pytest.mark.parametrize("missing", [["validation", "test"], ["test"], ["validation"]])
def test_ends_of_documents_are_cut_without_loss_or_overlap(missing):
    texts = ["".join(f"{i}: line {n}\n" for n in range(100)) for i in range(3)]
    parts = cut_ends(as_rows(texts), missing)
    assert list(parts) == ["train", *missing]
    for number, text in enumerate(texts):
        stretches = [rows["text"][number] for rows in parts.values()]
        assert "".join(stretches) == text
        assert all(0.08 <= len(part) / len(text) <= 0.13 for part in stretches[1:])
    assert [set(rows["ends"]) for rows in parts.values()] == [*[{False}] * len(missing), {True}]


def test_break_is_at_a_line_or_else_a_space_or_else_anywhere():
    assert break_before("a" * 50 + "\nbb cc" + "d" * 44, 54) == 50
    assert break_before("a" * 50 + " bb" + "d" * 47, 54) == 50
    assert break_before("a" * 100, 54) == 54
    assert break_before("\n" + "a" * 99, 54) == 54  # too far back
    assert break_before("", 0) == 0


def test_few_means_few_different_documents():
    assert has_few(as_rows(["a", "b"] * 50))
    assert has_few(as_rows([str(number) for number in range(19)]))
    assert not has_few(as_rows([str(number) for number in range(20)]))

"""Documents: found, cut without overlap and tokenised in pieces as they would be whole."""

import random
import tracemalloc

import numpy as np
import pytest

from gpt2_tuning.data import pieces, texts
from gpt2_tuning.data.documents import (
    breaks_before,
    cut_ends,
    fingerprint,
    found_documents,
    has_few,
)
from gpt2_tuning.data.examples import Example, text_chunks
from gpt2_tuning.data.pieces import document_examples, encoded
from gpt2_tuning.data.splits import fingerprint as fingerprint_of_rows
from gpt2_tuning.data.splits import row_digests
from gpt2_tuning.data.texts import Texts, as_rows
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError

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
    "'ll",
    "。",
    "漢字",
    "'5",
    "x=1;",
]


@pytest.fixture(params=[1, 3, 1000])
def short_stretches(request, monkeypatch):
    """Files are read a few characters at a time."""
    monkeypatch.setattr(texts, "STRETCH", request.param)


def file_of(tmp_path, text, name="book.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return Texts([path])


def random_text(seed, words=200):
    return "".join(random.Random(seed).choices(WORDS, k=words))


def read(documents):
    """The text of every document."""
    found = [""]
    for text, last in documents.stretches():
        found[-1] += text
        if last:
            found.append("")
    assert found.pop() == ""
    return found


def ids_of(documents):
    found: list[list[int]] = [[]]
    for ids, last in encoded(documents, WordTokenizer(GPT2Tokenizer())):
        found[-1] += ids
        if last:
            found.append([])
    return found[:-1]


@pytest.mark.parametrize("piece", [1, 7, 50])
def test_tokens_of_pieces_are_those_of_the_whole_document(piece, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", piece)
    monkeypatch.setattr(pieces, "GROUP", 3)
    texts = [random_text(f"{piece} {number}") for number in range(60)] + ["", " \n", "word"]
    assert ids_of(found_documents(Texts.of(texts))) == [
        GPT2Tokenizer().encode(text) if text.strip() else [] for text in texts
    ]


def test_a_file_is_the_same_documents_however_it_is_read(short_stretches, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 20)
    text = random_text(0) + "\r"
    documents = found_documents(file_of(tmp_path, text))
    text = text.replace("\r\n", "\n")
    assert read(documents) == [text]
    assert ids_of(documents) == [GPT2Tokenizer().encode(text)]
    assert documents.contents.digests == row_digests(as_rows([text]), ["text"])
    assert documents.contents.written.tolist() == ["<|endoftext|>" in text]
    rows = {"train": as_rows([text]), "test": as_rows([])}
    splits = {"train": documents, "test": documents.select([])}
    assert fingerprint(splits) == fingerprint_of_rows(rows, ["text"], None)


@pytest.mark.parametrize("separator", ["%", "%%", "\n", "%\n%", "ab"])
def test_documents_are_what_lies_between_separators(short_stretches, tmp_path, separator):
    generator = random.Random(separator)
    written = ["".join(generator.choices("a b%%%\n\n", k=300)) for _ in range(3)]
    paths = [file_of(tmp_path, text, f"{n}.txt").parts[0] for n, text in enumerate(written)]
    parts = [part.strip("\n") for text in written for part in text.split(separator)]
    assert read(found_documents(Texts(paths), separator)) == [p for p in parts if p.strip()]


@pytest.mark.parametrize("seq_len", [3, 7, 64])
def test_examples_of_a_stream_are_the_chunks_of_the_whole_document(seq_len, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 5)
    tokenizer = GPT2Tokenizer()
    for number in range(30):
        text = random_text(number, number) + "x"
        found = document_examples(
            found_documents(Texts.of([text])), WordTokenizer(tokenizer), seq_len
        )
        whole = list(text_chunks(tokenizer.encode(text), seq_len, tokenizer.end))
        assert list(found) == whole
        assert all(isinstance(example, Example) for example in whole)


def test_long_documents_are_tokenised_in_small_groups(monkeypatch):
    sizes = []
    real = GPT2Tokenizer.encode_batch

    def spy(self, texts):
        sizes.append(sum(map(len, texts)))
        return real(self, texts)

    monkeypatch.setattr(GPT2Tokenizer, "encode_batch", spy)
    monkeypatch.setattr(pieces, "PIECE", 1000)
    monkeypatch.setattr(pieces, "GROUP", 4)
    text = "some words of text\n" * 5000
    assert ids_of(found_documents(Texts.of([text]))) == [GPT2Tokenizer().encode(text)]
    assert max(sizes[:-1]) < 6000


@pytest.mark.parametrize("text", ["漢字、" * 2000, "ab12" * 2000, "QWJj+/89=" * 1000])
def test_a_text_without_blanks_is_tokenised_in_pieces_too(text, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 100)
    found = found_documents(Texts.of([text]))
    cut = list(pieces.pieces(found, GPT2Tokenizer()))
    assert max(len(piece.text) for piece in cut) < 210
    assert ids_of(found) == [GPT2Tokenizer().encode(text)]


def test_what_can_nowhere_be_cut_is_refused_before_it_takes_the_memory(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 100)
    monkeypatch.setattr(pieces, "LONGEST", 1000)
    with pytest.raises(UserError, match="more than 1,000 letters, digits, signs or blanks in a"):
        ids_of(found_documents(Texts.of(["a" * 2000])))


def test_a_file_that_was_changed_while_it_is_read_is_refused(tmp_path):
    documents = found_documents(file_of(tmp_path, "some text"))
    file_of(tmp_path, "some")
    with pytest.raises(UserError, match="was changed while it was read"):
        read(documents)


@pytest.mark.parametrize("missing", [["validation", "test"], ["test"], ["validation"]])
def test_ends_of_documents_are_cut_without_loss_or_overlap(missing):
    texts = ["".join(f"{i}: line {n}\n" for n in range(100)) for i in range(3)] + ["", "x"]
    parts = cut_ends(found_documents(Texts.of(texts)), missing)
    assert list(parts) == ["train", *missing]
    for number, text in enumerate(texts):
        stretches = [read(documents)[number] for documents in parts.values()]
        assert "".join(stretches) == text
        if number < 3:
            assert all(0.08 <= len(part) / len(text) <= 0.13 for part in stretches[1:])
    assert [found.whole for found in parts.values()] == [*[False] * len(missing), True]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("a" * 50 + "\nbb cc" + "d" * 44, 54, 50),
        ("a" * 50 + " bb" + "d" * 47, 54, 50),
        ("a" * 100, 54, 54),
        ("\n" + "a" * 99, 54, 54),  # too far back
        ("", 0, 0),
    ],
)
def test_break_is_at_a_line_or_else_a_space_or_else_anywhere(
    text, place, expected, short_stretches, tmp_path
):
    back = np.array([min(place, len(text) // 20)])
    found = breaks_before(file_of(tmp_path, text), np.array([0]), np.array([[place]]), back)
    assert found.tolist() == [[expected]]


def test_few_means_few_different_documents():
    def few(texts):
        return has_few(found_documents(Texts.of(texts)))

    assert few(["a", "b"] * 50)
    assert few([str(number) for number in range(19)])
    assert not few([str(number) for number in range(20)])


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "STRETCH", 10_000)
    monkeypatch.setattr(pieces, "PIECE", 1_000)
    tokenizer, peaks = WordTokenizer(GPT2Tokenizer()), []
    for lines in (1_000, 10_000, 40_000):  # the first fills caches
        file = file_of(tmp_path, "some words of a text\n" * lines)
        tracemalloc.start()
        splits = cut_ends(found_documents(file), ["validation", "test"])
        fingerprint(splits)
        for documents in splits.values():
            assert sum(1 for _ in document_examples(documents, tokenizer, 64)) > lines / 200
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 50_000  # of 630,000 bytes more

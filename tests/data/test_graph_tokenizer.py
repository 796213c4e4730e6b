"""The tokenizer in a graph gives the ids, and the texts, of the library's own."""

import numpy as np
import pytest
import tensorflow as tf
from hard_texts import HARD_TEXTS, random_texts

from gpt2_tuning.data import graph_tokenizer
from gpt2_tuning.data.tokenizer import GPT2Tokenizer


@pytest.fixture(scope="module")
def encode():
    """The graph, traced once, as a function from texts to lists."""
    graph = tf.function(graph_tokenizer.encode, [tf.TensorSpec([None], tf.string)], autograph=False)
    return lambda texts: graph(tf.constant(texts, tf.string)).to_list()


@pytest.fixture(scope="module")
def decode():
    """The same from rows of ids to texts."""

    def of_rows(ids, lengths):
        kept = tf.sequence_mask(lengths, tf.shape(ids)[1])
        return graph_tokenizer.decode(ids, kept)

    graph = tf.function(of_rows, autograph=False)

    def texts(rows):
        ragged = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
        found = graph(ragged.to_tensor(), tf.cast(ragged.row_lengths(), tf.int32))
        return [text.decode("utf-8") for text in found.numpy()]

    return texts


def test_ids_equal_the_librarys_on_hard_strings(encode):
    found = encode(HARD_TEXTS)
    for text, ids in zip(HARD_TEXTS, found, strict=True):
        assert ids == GPT2Tokenizer().encode(text), text[:40]


ODD = [
    *(
        "'s",
        "''s",
        "x's's",
        "it'll've",
        "a 's",
        "a  's",
        "a\n's",
        "1's",
        "!'s",
        "'S",
        "'re'r",
        "'x",
    ),
    *(
        "don'test",
        "we're.",
        "'l",
        "'ll",
        "'v",
        " '",
        "'",
        "a\n\nb",
        "a \n b",
        "\n\n",
        " \n",
        "a\t b",
    ),
    *("  a", "a  ", "\u00a0\u00a0a", "\u3000's", "\u00a0's", "1a!1a", "½½a", "\ufeffbom", "\ufffe"),
]


def test_ids_equal_the_librarys_where_pieces_meet(encode):
    assert encode(ODD) == GPT2Tokenizer().encode_batch(ODD)
    random = np.random.default_rng(0)
    letters = list(" \n\t'strelvmd1!a\u00a0½é")
    texts = ["".join(random.choice(letters, size=12)) for _ in range(3000)]
    assert encode(texts) == GPT2Tokenizer().encode_batch(texts)


def test_ids_equal_the_librarys_on_random_unicode(encode):
    texts = random_texts(3000, seed=11)
    assert encode(texts) == GPT2Tokenizer().encode_batch(texts)


def test_every_character_is_of_the_kind_that_the_library_takes_it_for(encode):
    """Pieces of one kind are joined: so each character stands between two of every kind."""
    codes = [code for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    texts = [
        "".join(f"a{chr(code)}a1{chr(code)}1!{chr(code)}!" for code in codes[start : start + 500])
        for start in range(0, len(codes), 500)
    ]
    assert encode(texts) == GPT2Tokenizer().encode_batch(texts)


def test_no_texts_and_empty_ones_have_no_tokens(encode):
    assert encode([]) == []
    assert encode([""]) == [[]]
    assert encode(["", "a", ""]) == [[], [64], []]


def test_bytes_that_are_no_text_are_a_replacement_character(encode):
    broken = tf.constant([b"a\xffb", b"\xe6\xbc"])
    assert encode(broken)[0] == GPT2Tokenizer().encode("a\ufffdb")


def test_texts_of_tokens_equal_the_librarys(decode):
    tokenizer = GPT2Tokenizer()
    rows = tokenizer.encode_batch([*HARD_TEXTS[1:], *random_texts(300, seed=2)])
    assert decode(rows) == [tokenizer.decode(row) for row in rows]
    random = np.random.default_rng(1)
    for count in (1, 2, 3, 8):  # which are mostly no valid UTF-8
        few = random.integers(0, 256, (2000, count)).tolist()
        many = random.integers(0, 50_257, (2000, count)).tolist()
        assert decode([*few, *many]) == [tokenizer.decode(row) for row in (*few, *many)]

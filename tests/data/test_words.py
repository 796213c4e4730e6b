"""Texts tokenised by their words have the ids that they have as a whole."""

import json
import random

import pytest

from gpt2_tuning.data import words
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError

BLANKS = [" ", "  ", "\r\n", *"\n\t\v\f\x1c\x1f\x85\u00a0\u1680\u180e\u2003\u200b\u2028\u2029"]
BLANKS += "\u202f\u205f\u3000\ufeff"
PARTS = ["a", "word", "don't", "'s", "'", "é", "e\u0301", "日本語", "🎉", "123", "½", "!?", "_",
    "<|endoftext|>", "\x01", "\ue000", "\U0010ffff"]  # fmt: skip


def hostile_texts(count, seed):
    """Runs of blank space of every kind between a few words, so that words repeat."""
    rng = random.Random(seed)
    every = [*BLANKS, *[" "] * 10, *PARTS]
    return ["".join(rng.choices(every, k=rng.randrange(60))) for _ in range(count)]


@pytest.fixture
def spied(monkeypatch):
    """A tokenizer by words, and the texts that the tokenizer itself is given."""
    given = []
    real = GPT2Tokenizer.encode_batch

    def spy(self, texts):
        given.extend(texts)
        return real(self, texts)

    monkeypatch.setattr(GPT2Tokenizer, "encode_batch", spy)
    return WordTokenizer(GPT2Tokenizer()), given


@pytest.mark.parametrize("seed", range(3))
def test_ids_are_those_of_whole_texts_whatever_the_blank_space(seed):
    texts = hostile_texts(2000, seed)
    expected = GPT2Tokenizer().encode_batch(texts)
    tokenizer = WordTokenizer(GPT2Tokenizer())
    assert tokenizer.encode_batch(texts) == expected
    assert [ids for text in texts for ids in tokenizer.encode_batch([text])] == expected


def test_every_pair_of_blank_spaces_between_words_is_tokenised_as_in_the_whole():
    texts = [f"a{one}{two}b a b a b" for one in BLANKS for two in ["", *BLANKS]]
    assert WordTokenizer(GPT2Tokenizer()).encode_batch(texts) == GPT2Tokenizer().encode_batch(texts)


def test_a_word_is_tokenised_once(spied):
    tokenizer, given = spied
    tokenizer.encode_batch(["to be or not to be", "or be not to be not"])
    assert sorted(given) == [" be", " not", " or", " to", "or", "to"]
    tokenizer.encode_batch(["to be not to see"] * 2)
    assert given[6:] == [" see"]


def test_texts_that_repeat_no_word_are_tokenised_whole(spied):
    tokenizer, given = spied
    texts = ["one two three four", "日本語の文には空白がない"]
    tokenizer.encode_batch(texts)
    assert given == texts


def test_words_that_are_kept_are_limited_in_number(spied, monkeypatch):
    monkeypatch.setattr(words, "KNOWN", 4)
    tokenizer, given = spied
    for texts in (["a b a b a b"], ["x y x y x y x"], ["a b a b a b"]):
        assert tokenizer.encode_batch(texts) == GPT2Tokenizer().encode_batch(texts)
        assert len(tokenizer._known) <= 4
    assert given.count(" b") == 2


def test_no_text_an_empty_one_and_one_with_a_nul_are_texts_as_others():
    tokenizer = WordTokenizer(GPT2Tokenizer())
    assert tokenizer.encode_batch([]) == []
    for texts in ([""], ["", "a a a", ""], ["a\0 b a\0 b a\0 b", "a b"]):
        assert tokenizer.encode_batch(texts) == GPT2Tokenizer().encode_batch(texts)


def test_lone_surrogate_is_a_clear_user_error():
    with pytest.raises(UserError, match=r"lone surrogate U\+D800"):
        WordTokenizer(GPT2Tokenizer()).encode_batch(["good", "\ud800"])


def test_real_texts_have_their_ids(real_data):
    lines = (real_data / "emotion" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = json.loads((real_data / "alpaca" / "instruction_data.json").read_text(encoding="utf-8"))
    texts = [json.loads(line)["text"] for line in lines[:3000]] + [row["output"] for row in rows]
    assert WordTokenizer(GPT2Tokenizer()).encode_batch(texts) == GPT2Tokenizer().encode_batch(texts)

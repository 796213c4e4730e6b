"""Tokens of an answer are told as they stand in it, by tokenizers that mark words as well."""

from types import SimpleNamespace
from typing import Any

import pytest
from bases import MARKED, write_tokenizer
from served_models import Heard

from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.scoring import TokenScore
from gpt2_tuning.serving.answers import Telling
from gpt2_tuning.serving.rows import Asked, Piece, ServedRow

TEXT = "The tide goes out 潮 again"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, MARKED)
    return read_tokenizer(directory)


class Scorer:
    """Says of each token only which it is."""

    def score(self, ids, first, *_):
        return ids[first:]


def test_scored_tokens_lie_in_the_text_that_is_told_with_them(tokenizer):
    ids = tokenizer.encode(TEXT)
    generation = Generation(max_new_tokens=len(ids) + 9, stop=["s!"])
    heard: Any = Heard()
    row = ServedRow(Asked((1,), generation, scored=0, streamed=True), tokenizer, heard)
    scorer: Any = Scorer()
    for token in ids:
        row.take([token], scorer)
        told = [one for piece in heard.pieces for one in piece.scores]
        assert told == ids[: len(told)]
        beginnings = [n for n in range(len(ids) + 1) if heard.text.startswith(text(tokenizer, n))]
        assert len(told) == beginnings[-1]


def text(tokenizer, count):
    """That of so many tokens."""
    return tokenizer.continued(tokenizer.encode(TEXT)[:count])


def alike(tokenizer):
    """Two tokens that differ in the blank space before them alone."""
    by_text = {tokenizer.continued([token]): token for token in range(tokenizer.vocabulary)}
    return next(
        (by_text[f" {one}"], by_text[one]) for one in by_text if one and f" {one}" in by_text
    )


@pytest.mark.parametrize("chat", [False, True])
def test_a_token_keeps_the_blank_space_it_begins_with(tokenizer, chat):
    ids = tokenizer.encode(TEXT)
    blank, bare = alike(tokenizer)
    likeliest = ((blank, -1.0), (bare, -2.0))
    scores = tuple(TokenScore(token, -0.5, likeliest) for token in ids)
    wanted: Any = SimpleNamespace(
        chat=chat, model=SimpleNamespace(name="m", template=None), rows=[None], prompts=[[1]],
        answers_each=1, echo=None, scored=2, usage=False,
    )  # fmt: skip
    piece = Piece(tokenizer.continued(ids), len(ids), scores, "length")
    found = Telling(wanted, tokenizer).whole([piece])["choices"][0]["logprobs"]
    if chat:
        words = {one["token"] for one in found["content"][0]["top_logprobs"]}
        tokens = [one["token"] for one in found["content"]]
    else:
        words, tokens = set(found["top_logprobs"][0]), found["tokens"]
        starts = [sum(map(len, tokens[:n])) for n in range(len(tokens))]
        assert found["text_offset"] == starts
    assert words == {tokenizer.continued([blank]), tokenizer.continued([bare])}
    assert len(words) == 2
    assert "\ufffd" in "".join(tokens) or "".join(tokens) == piece.text

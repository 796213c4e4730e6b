"""Where a row's text ends, and what of it is told, does not depend on how its tokens come."""

import json
import random

import pytest
from bases import KINDS, MARKED, write_tokenizer

from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.inference.continuation import Row
from gpt2_tuning.inference.generation_settings import Generation

LETTERS = "aé潮🙂日b \n"
CHUNKS = (1, 3, 4, 8, 24)


GAPS = "metaspace with ids of no token"


@pytest.fixture(scope="module", params=["GPT-2", *KINDS, GAPS])
def tokenizer(request, tmp_path_factory):
    if request.param == "GPT-2":
        return GPT2Tokenizer()
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, MARKED if request.param == GAPS else request.param)
    if request.param == GAPS:
        path = directory / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        ids = content["model"]["vocab"]
        content["model"]["vocab"] = {token: i + 100 * (i > 300) for token, i in ids.items()}
        path.write_text(json.dumps(content), encoding="utf-8")
    return read_tokenizer(directory)


def rows_of(tokenizer):
    """Token ids of texts with many bytes a character, and ids that are anything, up to 24."""
    draw = random.Random(0)
    for _ in range(60):
        text = "".join(draw.choices(LETTERS, k=10))
        found = tokenizer.encode(text), [draw.randrange(tokenizer.vocabulary) for _ in range(24)]
        yield from ([token for token in ids if token != tokenizer.end][:24] for ids in found)


def come(tokenizer, ids, chunk, stop=()):
    """A row that took its tokens so many at a time, and what was told of it meanwhile."""
    row, told = Row(tokenizer, Generation(max_new_tokens=len(ids), stop=stop)), []
    for start in range(0, len(ids), chunk):
        row.add(ids[start : start + chunk])
        told.append(row.settled_text())
    return row.continuation(), told


@pytest.mark.parametrize("stop", ["\ufffd", "é", "\ufffda", "潮"])
def test_where_a_row_ends_does_not_depend_on_how_many_tokens_come_at_once(tokenizer, stop):
    for ids in rows_of(tokenizer):
        found = [come(tokenizer, ids, chunk, [stop])[0] for chunk in CHUNKS]
        assert found == found[:1] * len(CHUNKS)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_what_was_told_is_never_taken_back(tokenizer, chunk):
    for ids in rows_of(tokenizer):
        whole, told = come(tokenizer, ids, chunk)
        assert all(whole.text.startswith(text) for text in told)
        assert told[-1] == whole.text == tokenizer.continued(ids)


def test_the_bytes_of_tokens_join_to_their_text(tokenizer):
    for ids in rows_of(tokenizer):
        text = tokenizer.continued(ids)
        if "\ufffd" not in text:
            assert b"".join(map(tokenizer.bytes_of, ids)).decode() == text

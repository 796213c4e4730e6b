"""Tokenizers of files give transformers' ids, and put no token for what a text has in letters."""

import json
import os

import pytest
from bases import BYTES, KINDS, MARKED, add_token, write_tokenizer

from gpt2_tuning.data.file_tokenizer import FileTokenizer, read_tokenizer
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError

os.environ.setdefault("USE_TORCH", "0")

TEXTS = [
    "The tide comes in.",
    " leading and trailing ",
    "a  b\n\n c\t",
    "Flut — 潮 \U0001f44d",
    "letters of <|end|>, <s>, </s> and <|im_start|>",
]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def directory(kind, tmp_path):
    write_tokenizer(tmp_path, kind)
    return tmp_path


def test_ids_and_texts_are_those_of_transformers(directory):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(directory, split_special_tokens=True)
    tokenizer = read_tokenizer(directory)
    expected = [reference(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert tokenizer.encode_batch(TEXTS) == expected
    assert [ids for ids, _ in tokenizer.encode_with_spans(TEXTS)] == expected
    assert [tokenizer.decode(ids) for ids in expected] == [
        reference.decode(ids, clean_up_tokenization_spaces=False) for ids in expected
    ]
    assert (tokenizer.end, tokenizer.end_text) == (reference.eos_token_id, reference.eos_token)
    assert tokenizer.vocabulary == len(reference)


def test_letters_of_special_tokens_are_letters(directory):
    tokenizer = read_tokenizer(directory)
    ids = tokenizer.encode(TEXTS[-1])
    assert not {tokenizer.start, tokenizer.end, tokenizer.pad} & set(ids)
    assert tokenizer.decode(ids) == TEXTS[-1]


def test_a_text_that_goes_on_keeps_the_blank_space_it_begins_with(directory):
    tokenizer, text = read_tokenizer(directory), "The tide comes in and goes out"
    ids = tokenizer.encode(text)
    for place in range(1, len(ids)):
        assert tokenizer.decode(ids[:place]) + tokenizer.continued(ids[place:]) == text
    assert tokenizer.continued([]) == ""


def test_an_empty_text_has_no_tokens_and_spans_cover_a_text(directory):
    tokenizer = read_tokenizer(directory)
    (empty, none), (ids, spans) = tokenizer.encode_with_spans(["", "The tide"])
    assert empty == none == []
    assert len(ids) == len(spans)
    assert (spans[0][0], spans[-1][1]) == (0, 8)


@pytest.mark.parametrize(
    ("kind_of", "changes", "start"),
    [
        (BYTES, {}, None),
        (BYTES, {"bos_token": "<|im_start|>"}, None),
        (BYTES, {"bos_token": "<|im_start|>", "add_bos_token": True}, "<|im_start|>"),
        (MARKED, {}, "<s>"),
        (MARKED, {"add_bos_token": False}, None),
    ],
)
def test_a_text_begins_as_the_files_say(kind_of, changes, start, tmp_path):
    write_tokenizer(tmp_path, kind_of, **changes)
    tokenizer = read_tokenizer(tmp_path)
    assert (None if tokenizer.start is None else tokenizer.decode([tokenizer.start])) == start


def test_what_pads_is_the_files_or_what_ends_a_text(tmp_path):
    for kind, pads in ((BYTES, "<|im_start|>"), (MARKED, "</s>")):
        write_tokenizer(tmp_path / kind, kind)
        tokenizer = read_tokenizer(tmp_path / kind)
        assert tokenizer.decode([tokenizer.pad]) == pads
        assert tokenizer.separator == tokenizer.end


def test_gpt2s_own_files_are_known_and_one_with_more_tokens_is_another(tmp_path):
    GPT2Tokenizer().save(tmp_path)
    assert isinstance(read_tokenizer(tmp_path), GPT2Tokenizer)
    add_token(tmp_path, "<mine>")
    other = read_tokenizer(tmp_path)
    assert isinstance(other, FileTokenizer)
    assert other.sha256 != GPT2Tokenizer().sha256
    assert other.vocabulary == GPT2Tokenizer.vocabulary + 1
    assert other.encode("a<mine>b") == [64, 50257, 65]
    assert other.encode(TEXTS[0]) == GPT2Tokenizer().encode(TEXTS[0])


def test_the_sum_follows_the_ids_and_what_code_puts(tmp_path):
    sums = set()
    for number, changes in enumerate(({}, {"pad_token": "<|end|>"}, {"eos_token": "<|im_start|>"})):
        write_tokenizer(tmp_path / str(number), BYTES, **changes)
        sums.add(read_tokenizer(tmp_path / str(number)).sha256)
    assert len(sums) == 3
    read_tokenizer(tmp_path / "0").save(tmp_path / "copy")
    assert read_tokenizer(tmp_path / "copy").sha256 in sums


def test_what_cannot_be_used_is_said_in_a_line(tmp_path):
    def refused(directory, match):
        with pytest.raises(UserError, match=match) as error:
            read_tokenizer(directory)
        assert "\n" not in str(error.value)

    refused(tmp_path, "no tokenizer.json in")
    (tmp_path / "tokenizer.model").write_bytes(b"sentencepiece")
    refused(tmp_path, "tokenizer.model is not read: .*save_pretrained")
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    refused(tmp_path, "tokenizer.json is not a tokenizer that can be read")
    write_tokenizer(tmp_path, BYTES, eos_token=None)
    refused(tmp_path, "names no eos_token")
    write_tokenizer(tmp_path, BYTES, eos_token="<gone>")
    refused(tmp_path, "eos_token '<gone>' is not in the vocabulary")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps([]))
    refused(tmp_path, "does not hold a JSON object")
    (tmp_path / "tokenizer_config.json").unlink()
    refused(tmp_path, "no tokenizer_config.json")
    write_tokenizer(tmp_path, MARKED)
    tokenizer = read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="lone surrogate"):
        tokenizer.encode("\ud800")

import json
import os
import shutil

import pytest
from hard_texts import HARD_TEXTS, random_texts

from gpt2_tuning.data.tokenizer import GPT2Tokenizer, built_tokenizer, read_vocabulary
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT

os.environ.setdefault("USE_TORCH", "0")

SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    GPT2Tokenizer().save(directory)
    return directory


@pytest.fixture(scope="module")
def reference(saved, tmp_path_factory):
    """transformers' tokenizer, made from the vocabulary and the merges alone."""
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("vocabulary")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(saved / name, directory)
    return transformers.GPT2TokenizerFast.from_pretrained(directory, split_special_tokens=True)


def test_vocabulary_is_gpt2s():
    tokenizer = GPT2Tokenizer()
    vocabulary, merges = read_vocabulary()
    assert tokenizer.sha256 == SHA256
    assert len(vocabulary) == 50257
    assert len(merges) == 50000
    assert vocabulary["!"] == 0
    assert vocabulary["Ġ"] == 220
    assert vocabulary["<|endoftext|>"] == END_OF_TEXT
    assert tokenizer.encode("Hello world, it's 2 o'clock") == [
        15496, 995, 11, 340, 338, 362, 267, 6, 15750,
    ]  # fmt: skip


@pytest.mark.parametrize("text", HARD_TEXTS, ids=range(len(HARD_TEXTS)))
def test_ids_equal_transformers_on_hard_strings(text, reference):
    ids = GPT2Tokenizer().encode(text)
    assert ids == reference(text)["input_ids"]
    assert END_OF_TEXT not in ids
    assert GPT2Tokenizer().decode(ids) == text


def test_ids_equal_transformers_on_random_unicode(reference):
    texts = random_texts(3000, seed=7)
    assert GPT2Tokenizer().encode_batch(texts) == reference(texts)["input_ids"]
    assert [GPT2Tokenizer().decode(ids) for ids in GPT2Tokenizer().encode_batch(texts)] == texts


def test_batch_equals_single_texts():
    texts = [*HARD_TEXTS, *random_texts(50, seed=1)]
    assert GPT2Tokenizer().encode_batch(texts) == [GPT2Tokenizer().encode(text) for text in texts]
    assert GPT2Tokenizer().encode_batch([]) == []


def test_saved_directory_gives_the_same_ids_through_auto_tokenizer(saved):
    loaded = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(saved)
    assert sorted(path.name for path in saved.iterdir()) == [
        "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    assert loaded.is_fast
    assert len(loaded) == 50257
    for name in ("eos_token", "bos_token", "unk_token", "pad_token"):
        assert getattr(loaded, name) == "<|endoftext|>"
        assert getattr(loaded, name + "_id") == END_OF_TEXT
    texts = HARD_TEXTS + random_texts(200, seed=3)
    assert loaded(texts)["input_ids"] == GPT2Tokenizer().encode_batch(texts)
    assert loaded.decode([64, END_OF_TEXT], skip_special_tokens=True) == "a"


def test_saving_does_not_change_the_shared_tokenizer_and_repeats_byte_for_byte(saved, tmp_path):
    GPT2Tokenizer().save(tmp_path)
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    assert END_OF_TEXT not in GPT2Tokenizer().encode("<|endoftext|>")
    assert json.loads((saved / "vocab.json").read_text("utf-8")) == read_vocabulary()[0]


def test_decode_shows_or_skips_the_end_of_text():
    tokenizer = GPT2Tokenizer()
    assert tokenizer.decode([64, END_OF_TEXT, 65]) == "a<|endoftext|>b"
    assert tokenizer.decode([64, END_OF_TEXT, 65], skip_end_of_text=True) == "ab"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("token", [-1, 50257])
def test_decode_refuses_ids_outside_the_vocabulary(token):
    with pytest.raises(ValueError, match=str(token)):
        GPT2Tokenizer().decode([64, token])


@pytest.mark.parametrize("text", ["\ud800", "fine until \udfff here"])
def test_lone_surrogate_is_a_clear_user_error(text):
    with pytest.raises(UserError, match=r"lone surrogate U\+D") as error:
        GPT2Tokenizer().encode_batch(["good", text])
    assert str(error.value).isascii()


def test_all_instances_share_one_vocabulary():
    GPT2Tokenizer()
    before = built_tokenizer.cache_info().misses
    GPT2Tokenizer()
    assert built_tokenizer.cache_info().misses == before

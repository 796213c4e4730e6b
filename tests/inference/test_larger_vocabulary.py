"""A model with more ids than the tokenizer has generates as one without them."""

import dataclasses

import numpy as np
import pytest
from samples import randomize

from gpt2_tuning.families.gpt2 import END_OF_TEXT, GPT2Config
from gpt2_tuning.inference.generation import Prompt, generate, stream_text
from gpt2_tuning.inference.sampling import Greedy, Temperature, TopK, TopP
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

SHAPE = GPT2Config(n_layer=1, n_embd=32, n_head=4, n_positions=64)
PROMPTS: list[Prompt] = ["The river", [7]]
EXTRA = 1.5
"""So much longer than any other row are those beyond the tokenizer's: one is often likeliest."""


@pytest.fixture(scope="module")
def plain():
    return randomize(GPT2LanguageModel(SHAPE).built_now())


def padded(plain, rows, dtype="float32"):
    """The same model with more rows of the embedding, which score highest and lowest of all."""
    size = END_OF_TEXT + 1 + rows
    config = dataclasses.replace(SHAPE, vocab_size=size)
    model = GPT2LanguageModel(config, dtype=dtype).built_now()
    table = plain.transformer.tokens.embeddings.numpy()
    rng = np.random.default_rng(1)
    longest = EXTRA * np.linalg.norm(table, axis=1).max()
    more = rng.normal(size=(rows, SHAPE.n_embd))
    more *= longest / np.linalg.norm(more, axis=1, keepdims=True)
    for variable, theirs in zip(model.weights, plain.weights, strict=True):
        value = theirs.numpy()
        variable.assign(np.concatenate([table, more]) if value.shape == table.shape else value)
    return model


@pytest.mark.parametrize("rows", [1, 47])
@pytest.mark.parametrize("sampler", [Greedy(), Temperature(2.0), TopK(5), TopP(0.9)], ids=str)
def test_ids_beyond_the_tokenizers_are_never_chosen(plain, sampler, rows):
    model = padded(plain, rows)
    settings = {"max_new_tokens": 24, "sampler": sampler, "seed": 3}
    assert generate(model, PROMPTS, **settings) == generate(plain, PROMPTS, **settings)
    assert (
        "".join(stream_text(model, PROMPTS[0], **settings))
        == generate(plain, PROMPTS[:1], **settings)[0].text
    )


def test_extra_rows_are_likelier_than_all_others_where_they_are_not_cut(plain):
    """Else the test above would say nothing."""
    ids = np.arange(60, dtype=np.int32)[None]
    logits = padded(plain, 47)({"token_ids": ids, "attention_mask": np.ones_like(ids)})
    assert np.mean(np.argmax(logits, axis=2) > END_OF_TEXT) > 0.3


def test_a_prompt_of_ids_may_hold_what_the_model_knows_and_the_tokenizer_does_not(plain):
    model = padded(plain, 47)
    found = generate(model, [[50280, 5]], max_new_tokens=24)[0]
    assert found.token_ids
    assert max(found.token_ids) <= END_OF_TEXT


def test_what_of_a_checkpoint_is_not_used_is_said_once(plain, tmp_path, capsys):
    padded(plain, 47).save_pretrained(tmp_path / "padded")
    model = GPT2LanguageModel.from_pretrained(tmp_path / "padded")
    note = (
        f"{tmp_path / 'padded'}: 47 of its 50,304 token ids are not among the tokenizer's 50,257: "
        "no text leads to them, and they are never generated"
    )
    assert list(model.loading_notes) == [note]
    assert capsys.readouterr().err == f"note: {note}\n"
    model.load_weights_from(tmp_path / "padded")
    assert capsys.readouterr().err == f"note: {note}\n"


def test_a_head_that_the_model_has_not_is_said_to_be_unused(tmp_path, capsys):
    config = dataclasses.replace(SHAPE, vocab_size=97)
    randomize(GPT2Classifier(config, 3).built_now()).save_pretrained(tmp_path / "classifier")
    GPT2LanguageModel.from_pretrained(tmp_path / "classifier")
    expected = "score.weight, a classifier's head, is not used"
    assert capsys.readouterr().err == f"note: {tmp_path / 'classifier'}: {expected}\n"

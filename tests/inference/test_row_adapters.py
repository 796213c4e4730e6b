"""Rows of one call under adapters of their own are answered as in a call for each."""

import dataclasses

import numpy as np
import pytest
from lora_models import SMALL, small_model

from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.classification import classify_pairs, classify_text
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.generation import generate, generate_text, stream_text
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

pytestmark = pytest.mark.usefixtures("all_bits")

CONFIG = dataclasses.replace(SMALL, n_layer=1, n_embd=16, vocab_size=50257)
LORA = {"rank": 2, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]}
PROMPTS = ["one two", "three", "four five six", "seven", "eight"]
ROWS = ["tone", None, "facts", {"tone": 0.5, "facts": 0.5}, "default"]


def with_adapters(model_class, own=LORA, **of_adapter):
    model = small_model(model_class, CONFIG, own)
    random = np.random.default_rng(1)
    for name, labels in (("tone", ["calm", "cross"]), ("facts", list("abcde"))):
        model.add_adapter(name, LORA, **({"label_names": labels} if of_adapter else {}))
        for variable in model.gate.added[name].weights().values():
            variable.assign(random.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return with_adapters(GPT2LanguageModel)


@pytest.fixture(scope="module")
def classifier():
    return with_adapters(GPT2Classifier, label_names=True)


def test_rows_generate_what_a_batch_under_their_adapter_does(model):
    found = generate(model, PROMPTS, 6, adapters=ROWS)
    alone = []
    for number, choice in enumerate(ROWS):
        model.set_adapter(choice)
        alone.append(generate(model, PROMPTS, 6)[number])
    assert found == alone
    assert len({row.token_ids for row in alone}) > 2
    for size in (1, 2):
        assert generate(model, PROMPTS, 6, batch_size=size, adapters=ROWS) == alone


def test_a_model_with_one_adapter_has_it_in_some_rows_and_its_base_in_others():
    model = small_model(GPT2LanguageModel, CONFIG, LORA)
    found = generate_text(model, PROMPTS[:2], 6, adapters=["default", None])
    on = generate_text(model, PROMPTS[:2], 6)
    with model.disable_lora():
        off = generate_text(model, PROMPTS[:2], 6)
    assert found == [on[0], off[1]]
    plain = small_model(GPT2LanguageModel, CONFIG)
    assert generate_text(plain, PROMPTS[:2], 6, adapters=[None, None]) == off


def test_switching_traces_no_loop_of_generation_again(model):
    decoders: dict = {}
    for choice in ("tone", None, "facts"):
        model.set_adapter(choice)
        generate_text(model, PROMPTS[:2], 4)
        generate_text(model, PROMPTS[:2], 4, adapters=[choice, "tone"])
        for by_row in (False, True):
            decoder = decoder_of(model, GPT2Tokenizer.vocabulary, [GPT2Tokenizer().end], by_row)
            assert decoders.setdefault(by_row, (decoder, decoder.traces)) == (
                decoder,
                decoder.traces,
            )


def test_a_streamed_prompt_keeps_its_adapter_to_its_end(model):
    wanted = generate_text(model, PROMPTS[:1], 12, adapters=["tone"])[0]
    model.set_adapter("facts")
    pieces = stream_text(model, PROMPTS[0], 12, adapter="tone")
    text = next(pieces)
    model.set_adapter(None)
    assert text + "".join(pieces) == wanted


@pytest.mark.parametrize("rows", [["tone", "facts"], ["facts", None], [None, "default"]], ids=str)
def test_rows_are_labelled_by_their_own_heads_and_names(classifier, rows):
    texts = PROMPTS[:2]
    found = classify_text(classifier, texts, adapters=rows)
    for number, choice in enumerate(rows):
        classifier.set_adapter(choice)
        wanted = classify_text(classifier, texts)[number]
        assert found[number].label == wanted.label
        assert list(found[number].probabilities) == classifier.chosen_label_names()
        np.testing.assert_allclose(
            list(found[number].probabilities.values()),
            list(wanted.probabilities.values()),
            atol=1e-5,
        )
        assert sum(found[number].probabilities.values()) == pytest.approx(1, abs=1e-5)
    pairs = [(text, "nine") for text in texts]
    by_row = classify_pairs(classifier, pairs, adapters=rows)
    assert [list(p.probabilities) for p in by_row] == [list(p.probabilities) for p in found]


def test_adapters_of_rows_that_do_not_fit_are_refused(model, classifier):
    with pytest.raises(UserError, match="unknown adapter 'style': the model has default, tone"):
        generate_text(model, PROMPTS[:1], 4, adapters=["style"])
    with pytest.raises(UserError, match="1 adapters for 2 rows"):
        generate_text(model, PROMPTS[:2], 4, adapters=["tone"])
    with pytest.raises(UserError, match="adapters is not a list"):
        generate_text(model, PROMPTS[:1], 4, adapters="tone")
    with pytest.raises(UserError, match="1 adapters for 2 rows"):
        classify_text(classifier, PROMPTS[:2], adapters=["tone"])
    with pytest.raises(UserError, match="unknown adapter 'style'"):
        stream_text(model, PROMPTS[0], 4, adapter="style")
    plain = small_model(GPT2LanguageModel, CONFIG)
    with pytest.raises(UserError, match="unknown adapter 'tone': the model has none"):
        generate_text(plain, PROMPTS[:1], 4, adapters=["tone"])

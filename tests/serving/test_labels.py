"""A classifier that is served labels as `classify_text` does, under each of its adapters."""

import numpy as np
import pytest
from http_server import MISSING, detail, needs_serve, serving
from lora_models import small_model
from served_models import CONFIG, LORA

from gpt2_tuning.inference.classification import classify_pairs, classify_text
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.serving.served import Named, Served

if not MISSING:
    import openai

pytestmark = [needs_serve, pytest.mark.usefixtures("all_bits")]
TEXTS = [f"text number {number}" for number in range(40)]


@pytest.fixture(scope="module")
def model():
    made = small_model(GPT2Classifier, CONFIG, LORA, label_names=["bad", "good"])
    made.add_adapter("adapter-1", LORA, label_names=["food", "staff", "place"])
    random = np.random.default_rng(1)
    for variable in made.gate.added["adapter-1"].weights().values():
        variable.assign(random.normal(0, 0.3, variable.shape))
    return made


@pytest.fixture(scope="module")
def running(model):
    names = [
        Named("taste", "default", None, ["bad", "good"], 48),
        Named("base", None),
        Named("alone", "default", None, ["bad", "good"], 48, texts=1),
        Named("paired", "default", None, ["bad", "good"], 48, texts=2),
        Named("about", "adapter-1", None, ["food", "staff", "place"], 48),
    ]
    with serving(Served(model, {one.name: one for one in names})) as made:
        yield made


@pytest.mark.parametrize(("name", "adapter"), [("taste", "default"), ("about", "adapter-1")])
@pytest.mark.parametrize("examples", [TEXTS, [TEXTS[:2], TEXTS[2:4]]], ids=["texts", "pairs"])
def test_labels_are_those_of_the_library(model, running, name, adapter, examples):
    status, found = running.ask("/v1/classify", {"model": name, "input": examples})
    assert status == 200
    label = classify_text if examples is TEXTS else classify_pairs
    wanted = label(model, examples, adapters=[adapter] * len(examples))
    assert [one["label"] for one in found["data"]] == [one.label for one in wanted]
    for one, other in zip(found["data"], wanted, strict=True):
        assert one["probabilities"] == pytest.approx(other.probabilities, abs=1e-5)
        assert list(one["probabilities"]) == list(other.probabilities)


def test_a_single_text_is_a_list_of_one(running):
    status, found = running.ask("/v1/classify", {"model": "taste", "input": TEXTS[0]})
    assert (status, len(found["data"])) == (200, 1)
    for name, example in (("alone", "a"), ("paired", ["a", "b"])):
        status, found = running.ask("/v1/classify", {"model": name, "input": [example]})
        assert (status, len(found["data"])) == (200, 1)


def test_what_cannot_be_labelled_is_said(running):
    for fields, field in (
        ({"model": "base", "input": "a"}, "model"),
        ({"model": "taste", "input": " "}, "input"),
        ({"model": "taste", "input": ["a", ["b", "c"]]}, "input"),
        ({"model": "taste", "input": []}, "input"),
        ({"model": "alone", "input": [["a", "b"]]}, "input"),
        ({"model": "paired", "input": "a"}, "input"),
        ({"model": "paired", "input": ["a", "b"]}, "input"),
        ({"model": "taste"}, "input"),
    ):
        status, body = running.ask("/v1/classify", fields)
        assert (status, body["error"]["param"]) == (400, field)


def test_a_classifier_writes_nothing_but_has_vectors(running):
    client = running.client()
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="taste", prompt="a")
    assert detail(refused.value)["param"] == "model"
    vectors = [
        client.embeddings.create(model=name, input="a b").data[0].embedding
        for name in ("taste", "base", "about")
    ]
    assert not np.allclose(vectors[0], vectors[1])
    assert not np.allclose(vectors[1], vectors[2])

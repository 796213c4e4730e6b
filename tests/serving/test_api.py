"""OpenAI's own client is answered as OpenAI's server would, with what `generate` says."""

import numpy as np
import pytest
from http_server import MISSING, detail, needs_serve
from served_models import TOKENIZER, alone

from gpt2_tuning.data.chat_template import DEFAULT, ChatTemplate
from gpt2_tuning.data.prompts import DOLLY, Template
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.serving.rows import Asked

if not MISSING:
    import openai

pytestmark = [needs_serve, pytest.mark.usefixtures("all_bits")]


def said(model, prompt, adapter, number=0, **choices):
    """What `generate` continues a prompt with, a text or token ids."""
    ids = prompt if isinstance(prompt, tuple) else tuple(TOKENIZER.encode(prompt))
    return alone(model, Asked(ids, Generation(**choices), adapter, number))


def test_base_and_adapters_are_listed(client):
    assert [one.id for one in client.models.list()] == ["run", "base", "tone", "talk"]
    assert client.models.retrieve("tone").object == "model"


@pytest.mark.parametrize(
    ("name", "adapter"), [("run", "default"), ("base", None), ("tone", "tone")]
)
def test_greedy_completions_are_those_of_generate(model, client, name, adapter):
    found = client.completions.create(model=name, prompt="one two", max_tokens=12, temperature=0)
    wanted = said(model, "one two", adapter, max_new_tokens=12)
    assert found.choices[0].text == wanted.text
    assert found.choices[0].finish_reason == "length"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (2, 12)


def test_drawn_answers_follow_from_seed_and_number(model, client):
    ask = {"model": "tone", "max_tokens": 8, "seed": 7, "temperature": 0.9, "top_p": 0.8}
    found = client.completions.create(prompt=["one", "two three"], n=2, **ask)
    rows = [("one", 0), ("one", 1), ("two three", 2), ("two three", 3)]
    choices = {"seed": 7, "temperature": 0.9, "top_p": 0.8, "max_new_tokens": 8}
    wanted = [said(model, prompt, "tone", number, **choices).text for prompt, number in rows]
    assert [choice.text for choice in found.choices] == wanted
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert len(set(wanted)) > 2
    first, second = (client.completions.create(prompt="one", model="tone") for _ in range(2))
    assert first.choices[0].text != second.choices[0].text  # without a seed each has its own


def test_streamed_completions_are_the_whole_ones_in_parts(client):
    ask = {"model": "tone", "prompt": "one two", "max_tokens": 24, "seed": 3, "n": 2}
    whole = client.completions.create(**ask)
    parts = list(client.completions.create(stream=True, **ask))
    for index in (0, 1):
        own = [part.choices[0] for part in parts if part.choices[0].index == index]
        assert "".join(one.text for one in own) == whole.choices[index].text
        assert [one.finish_reason for one in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == "length"
        assert len(own) > 2


def test_penalties_stops_and_further_ways_to_choose_are_those_of_generate(model, client):
    choices = {"repetition_penalty": 1.4, "top_k": 30, "min_p": 0.01, "no_repeat_ngram": 2}
    openais = {"presence_penalty": 0.5, "frequency_penalty": 0.4, "temperature": 1.2, "seed": 11}
    ask = {"model": "base", "prompt": "one one one", "max_tokens": 20, **openais}
    found = client.completions.create(extra_body=choices, **ask)
    wanted = said(model, "one one one", None, max_new_tokens=20, **choices, **openais).text
    assert found.choices[0].text == wanted
    stop = wanted[len(wanted) // 2 :][:4]
    found = client.completions.create(extra_body=choices, stop=["\x00", stop], **ask)
    assert found.choices[0].text == wanted[: wanted.find(stop)]
    assert found.choices[0].finish_reason == "stop"


def test_scores_of_completions_are_the_models(model, client):
    ask = {"model": "tone", "prompt": "one two three", "max_tokens": 6, "temperature": 0}
    found = client.completions.create(logprobs=3, echo=True, **ask).choices[0]
    assert found.text.startswith("one two three")
    ids = [
        *TOKENIZER.encode("one two three"),
        *said(model, "one two three", "tone", max_new_tokens=6).token_ids,
    ]
    gate = model.rows_gate(["tone"])
    inputs = {"token_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), int)}
    logits = model({**inputs, "gate": gate}).numpy()[0]
    wanted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scores = found.logprobs
    assert "".join(scores.tokens) == found.text
    assert scores.token_logprobs[0] is scores.top_logprobs[0] is None
    np.testing.assert_allclose(
        scores.token_logprobs[1:], [wanted[i, id] for i, id in enumerate(ids[1:])], atol=1e-3
    )
    assert [len(likely) for likely in scores.top_logprobs[1:]] == [3] * (len(ids) - 1)
    assert scores.text_offset == [
        found.text.index(t) if not i else sum(map(len, scores.tokens[:i]))
        for i, t in enumerate(scores.tokens)
    ]


def test_instructions_are_answered_by_the_runs_template(model, client):
    messages = [
        {"role": "system", "content": "It is about birds."},
        {"role": "user", "content": [{"type": "text", "text": "Name one."}]},
    ]
    ask = {"model": "run", "max_tokens": 12, "seed": 5}
    found = client.chat.completions.create(messages=messages, **ask)
    prompt = Template("dolly", DOLLY).prompt("Name one.", "It is about birds.")
    wanted = said(model, prompt, "default", seed=5, temperature=1, max_new_tokens=12).text
    assert found.choices[0].message.content == wanted.strip()
    assert found.choices[0].message.role == "assistant"
    parts = client.chat.completions.create(messages=messages, stream=True, **ask)
    deltas = [part.choices[0].delta for part in parts]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content for delta in deltas) == wanted.strip()


def test_conversations_are_answered_by_the_chat_template(model, client):
    template = ChatTemplate("default", DEFAULT, TOKENIZER)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    found = client.chat.completions.create(
        model="talk",
        messages=messages,
        temperature=0,
        max_completion_tokens=4,
        logprobs=True,
        top_logprobs=2,
    )
    prompt = template.text_of(messages, prompt=True)
    ids = []
    for number, piece in enumerate(prompt.split("<|endoftext|>")):
        ids += ([TOKENIZER.end] if number else []) + TOKENIZER.encode(piece)
    wanted = said(model, tuple(ids), "facts", max_new_tokens=4)
    assert found.choices[0].message.content == wanted.text.strip()
    scores = found.choices[0].logprobs.content
    assert b"".join(bytes(one.bytes) for one in scores).decode() == wanted.text
    assert [len(one.top_logprobs) for one in scores] == [2] * 4
    assert scores[0].top_logprobs[0].token == scores[0].token


def test_an_answer_in_a_conversation_may_fill_the_context(client):
    found = client.chat.completions.create(model="run", messages=[{"role": "user", "content": "a"}])
    assert found.usage.total_tokens == 64 or found.choices[0].finish_reason == "stop"


def test_streams_end_with_the_counts_where_they_are_asked_for(client):
    parts = list(
        client.completions.create(
            model="base", prompt="one", max_tokens=5, stream=True, temperature=0,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert parts[-1].choices == []
    assert parts[-1].usage.completion_tokens == 5
    assert all(part.usage is None for part in parts[:-1])


def test_texts_become_vectors_of_any_form(model, client, running):
    found = client.embeddings.create(model="tone", input=["one two", "three"])
    plain = client.embeddings.create(model="tone", input=[1, 2, 3], encoding_format="float")
    base = client.embeddings.create(model="base", input="one two", extra_body={"pooling": "mean"})
    wanted = running.served.embedder
    ids = TOKENIZER.encode("one two")
    np.testing.assert_allclose(
        found.data[0].embedding, wanted.embed([ids], "tone", "last")[0], atol=1e-5
    )
    np.testing.assert_allclose(
        base.data[0].embedding, wanted.embed([ids], None, "mean")[0], atol=1e-5
    )
    assert len(plain.data) == 1
    assert found.usage.prompt_tokens == 3


def test_mistakes_are_said_by_the_field(client):
    ask = {"model": "run", "prompt": "one"}
    for changes, error, field in (
        ({"model": "gpt-5"}, openai.NotFoundError, "model"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"max_tokens": 64}, openai.BadRequestError, "max_tokens"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"top_p": 0}, openai.BadRequestError, "top_p"),
        ({"n": 129}, openai.BadRequestError, "n"),
        ({"n": 100}, openai.BadRequestError, "n"),
        ({"stop": [""]}, openai.BadRequestError, "stop"),
        ({"prompt": ""}, openai.BadRequestError, "prompt"),
        ({"prompt": [50257]}, openai.BadRequestError, "prompt"),
        ({"prompt": [1] * 70}, openai.BadRequestError, "prompt"),
        ({"logit_bias": {"1": 2}}, openai.BadRequestError, "logit_bias"),
        ({"extra_body": {"seeds": 1}}, openai.BadRequestError, "seeds"),
    ):
        with pytest.raises(error) as refused:
            client.completions.create(**{**ask, **changes})
        assert detail(refused.value)["param"] == field
        assert detail(refused.value)["message"]
    for name, messages in (
        ("base", [{"role": "user", "content": "a"}]),
        ("run", [{"role": "user", "content": "a"}] * 2),
        ("run", [{"role": "tool", "content": "a"}]),
        ("run", [{"role": "user"}]),
        ("talk", [{"role": "nobody", "content": "a"}]),
    ):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=name, messages=messages)
    assert client.models.list()

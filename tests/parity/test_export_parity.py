"""What is exported answers in transformers and in PEFT as the run does here."""

import json

import numpy as np
import pytest
from exported_runs import SEQ_LEN, write_runs
from hard_texts import HARD_TEXTS
from parity.torch_runs import NEEDS_TORCH, run_torch_side

from gpt2_tuning.__main__ import main
from gpt2_tuning.commands.export_runs import finished
from gpt2_tuning.data.chat_examples import chat_ids
from gpt2_tuning.inference.classification import classify
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel

pytestmark = NEEDS_TORCH

TEXTS = [text for text in HARD_TEXTS if text.strip() and len(text) < 20]
MESSAGES = [
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": "What is a tide?"},
]
PROMPT = "### Instruction:\nName three birds.\n\n### Response:\n"
PAIR = ["It rained all day.", "It was dry."]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs, their exports, and what the other half made of those."""
    directory = tmp_path_factory.mktemp("exports")
    write_runs(directory)
    for name in ("mood", "pairs", "follow", "talk"):
        export(directory, name, "hf", name)
    for name in ("mood", "follow"):
        export(directory, name, "adapter", f"{name}-adapter")
    asked = {"texts": TEXTS, "pair": PAIR, "messages": MESSAGES, "prompt": PROMPT}
    (directory / "asked.json").write_text(json.dumps(asked))
    run_torch_side("read", directory, "export_torch_side.py")
    return directory


def export(home, name, to, place):
    assert (
        main(["export", str(home / "runs" / name), "--to", to, "--output", str(home / place)]) == 0
    )


@pytest.fixture(scope="module")
def answers(home):
    return json.loads((home / "answers.json").read_text())


def model_of(home, name, kind):
    model = finished(home / "runs" / name).model()
    assert isinstance(model, kind)
    return model


def shares(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_classifiers_answer_as_here_merged_and_as_adapters(home, answers):
    model = model_of(home, "mood", Classifier)
    found = np.load(home / "logits.npz")
    wanted = classify(model, [(text,) for text in TEXTS], seq_len=SEQ_LEN)
    probabilities = [list(one.probabilities.values()) for one in wanted]
    for name in ("mood", "mood-adapter"):
        np.testing.assert_allclose(shares(found[name]), probabilities, atol=1e-5)
    assert list(answers["labels"].values()) == model.label_names
    assert answers["piped"] == [one.label for one in wanted]
    assert answers["ids"] == model.tokenizer.encode_batch(TEXTS)
    pairs = model_of(home, "pairs", Classifier)
    (pair,) = classify(pairs, [(PAIR[0], PAIR[1])], seq_len=SEQ_LEN)
    np.testing.assert_allclose(
        shares(found["pairs"])[0], list(pair.probabilities.values()), atol=1e-5
    )


def test_language_models_write_as_here_and_know_where_they_end(home, answers):
    (text,) = generate_text(model_of(home, "follow", LanguageModel), [PROMPT], max_new_tokens=12)
    assert answers["follow"] == answers["follow-adapter"] == text
    assert answers["follow ends"] == answers["talk ends"] == [50256, 50256]


def test_conversations_become_the_same_tokens(home, answers):
    chat = finished(home / "runs" / "talk").chat
    assert chat is not None
    assert answers["chat text"] == chat.text_of(MESSAGES, prompt=True)
    ids = chat_ids(chat.render(MESSAGES, prompt=True), chat.tokenizer)[0]
    assert answers["chat ids"] == ids
    assert ids.count(50256) == 1  # the end of the answer is a token, not letters
    model = model_of(home, "talk", LanguageModel)
    assert [answers["talk"]] == generate_text(model, [ids], max_new_tokens=12)

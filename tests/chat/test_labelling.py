"""Labels on the page, and the tokens that they hang on."""

import json

import numpy as np
import pytest
from chat_runs import left_run, prepared

from gpt2_tuning.chat import labelling, looks, row_files
from gpt2_tuning.chat.opened import TUNED, open_runs
from gpt2_tuning.commands.chat import texts_of
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.attribution import Share, shares_of_text
from gpt2_tuning.inference.classification import classify_text
from gpt2_tuning.models.classifier import Classifier

TEXT = "i feel fine by the sea"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = prepared(tmp_path_factory.mktemp("home"))
    left_run(home, "classes", "classes")
    left_run(home, "others", "classes", seed=1)
    left_run(home, "pairs", "pairs")
    left_run(home, "whole", "classes", lora=False)
    return home


@pytest.fixture(scope="module")
def classes(home):
    runs = open_runs([home / "classes", home / "others"], {}, texts_of)
    assert runs[0].own.model is runs[1].own.model
    return runs[0]


@pytest.mark.parametrize("voice", [TUNED, "others"])
def test_gradient_times_input_is_how_the_score_changes_as_a_token_grows(classes, voice):
    """Against a finite difference of the very score, token by token."""
    voice = classes.voices[voice]
    model, names = voice.model, classes.metadata.label_names
    table = model.transformer.tokens.embeddings
    before = table.numpy()

    def score():
        probabilities = labelling.label(classes, voice, (TEXT,)).probabilities
        logits = np.log([probabilities[name] for name in names])
        return logits[2] - logits.mean()

    shares = labelling.shares(classes, voice, (TEXT,), names[2])
    assert "".join(share.text for share in shares) == TEXT
    ids, step = model.tokenizer.encode(TEXT), 0.02
    assert len(ids) == len(set(ids)) == len(shares)
    try:
        for number, share in zip(ids, shares, strict=True):
            found = []
            for sign in (1, -1):
                grown = before.copy()
                grown[number] *= 1 + sign * step
                table.assign(grown)
                found.append(score())
            slope = (found[0] - found[1]) / (2 * step)
            assert share.value == pytest.approx(slope, rel=0.03, abs=5e-4)
    finally:
        table.assign(before)
    assert max(abs(share.value) for share in shares) > 0.01


def test_the_tokens_of_a_character_are_one_stretch():
    tokenizer = GPT2Tokenizer()
    text = "so 🎸 é!"
    ids = tokenizer.encode(text)
    shares = shares_of_text(ids, np.arange(len(ids)), tokenizer)
    assert "".join(share.text for share in shares) == text
    assert sum(share.value for share in shares) == sum(range(len(ids)))
    assert len(shares) < len(ids)
    assert not any("\ufffd" in share.text for share in shares)


def test_labels_are_those_of_the_library_and_each_voice_has_its_own(classes, home):
    found = labelling.label(classes, classes.own, (TEXT,))
    (alone,) = open_runs([home / "classes"], {}, texts_of)
    assert isinstance(alone.own.model, Classifier)
    (expected,) = classify_text(alone.own.model, [TEXT])
    assert found.label == expected.label
    assert found.probabilities == pytest.approx(expected.probabilities, rel=1e-4)
    other = labelling.label(classes, classes.voices["others"], (TEXT,))
    assert other.probabilities != pytest.approx(found.probabilities, rel=1e-2)


def test_a_run_without_lora_labels_and_colours(home):
    (run,) = open_runs([home / "whole"], {}, texts_of)
    found = labelling.label(run, run.own, (TEXT,))
    assert any(share.value for share in labelling.shares(run, run.own, (TEXT,), found.label))


def test_pairs_have_two_texts_and_the_separator_between(home):
    (run,) = open_runs([home / "pairs"], {}, texts_of)
    fields = ("A man sings.", "Somebody sings.")
    found = labelling.label(run, run.own, fields)
    assert set(found.probabilities) == {"entailment", "not_entailment"}
    shares = labelling.shares(run, run.own, fields, found.label)
    assert "".join(one.text for one in shares) == "A man sings.<|endoftext|>Somebody sings."
    with pytest.raises(UserError, match="the hypothesis is empty"):
        labelling.label(run, run.own, ("A man sings.", " "))
    with pytest.raises(UserError, match="there is no class 'x': the model has entailment"):
        labelling.shares(run, run.own, fields, "x")


def test_a_file_of_texts_is_labelled(classes, tmp_path):
    source, target = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    source.write_text(f"body,prediction\n{TEXT},mine\n")
    assert row_files.columns_of(classes, source).chosen == {"text": "body"}
    steps = row_files.answer_rows(classes, classes.own, source, target, ["body"])
    assert list(steps)[-1] == (1, 1)
    (row,) = map(json.loads, target.read_text().splitlines())
    assert row["prediction"] == "mine"
    assert row["prediction_2"] == labelling.label(classes, classes.own, (TEXT,)).label


def test_texts_of_others_are_no_html():
    evil = "<img src=x onerror=alert(1)>"
    parts = [
        looks.bars({evil: 0.7, "b": 0.3}),
        looks.tokens([Share(evil, -1.0), Share("b", 0.5)], evil),
        looks.table([{evil: evil, "b": {evil: 0.5}}]),
    ]
    for part in parts:
        assert "<img" not in part
        assert "&lt;img" in part
    assert 'class="against" title="-1.0000"' in parts[1]

"""A run's card: the model it really was, and test scores that cost it nothing else."""

import functools

import pytest
from prepared_sets import header

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.training import model_card
from gpt2_tuning.training.model_card import CARD_FILE, report_test_scores, shape_of

FIGURES = ("loss", "val_loss", "accuracy", "val_accuracy")
CARD = b"# Title\r\n\n## Validation\n\n0.9\n\n## Use\n\n    test.py\n\n## Notes\n\nno UTF-8: \xff\n"


HISTORY = [{"epoch": e, "update": 1500 * e, **dict.fromkeys(FIGURES, 1.0 / e)} for e in (1, 2, 3)]


def written(tmp_path, *scores, card=CARD):
    """The card after evaluations."""
    (tmp_path / CARD_FILE).write_bytes(card)
    for text in scores:
        report_test_scores(tmp_path, text)
    return (tmp_path / CARD_FILE).read_bytes()


@pytest.mark.parametrize("card", [CARD, b"", b"all of it is mine", CARD + model_card.TEST_BEGINS])
def test_scores_come_into_a_card_without_a_byte_of_it_lost(tmp_path, card):
    found = written(tmp_path, "it is 0.8", card=card)
    section = model_card.TEST_SCORES.search(found)
    assert section
    assert b"## Test\n\nit is 0.8\n" in section.group()
    rest = found.replace(section.group(), b"")
    assert rest.replace(b"\n", b"") == card.replace(b"\n", b"")
    assert all(line in rest.split(b"\n") for line in card.split(b"\n"))


def test_scores_stand_between_the_validation_and_the_use(tmp_path):
    found = written(tmp_path, "it is 0.8")
    assert found.index(b"## Validation") < found.index(b"## Test") < found.index(b"## Use")


def test_scores_are_replaced_where_they_stand_and_nothing_else_is(tmp_path):
    once = written(tmp_path, "it is 0.8")
    moved = b"above\n" + once.replace(b"## Use", b"between\n\n## Use")
    twice = written(tmp_path, "is 0.7 now", "it is 0.6", card=moved)
    assert twice == moved.replace(b"it is 0.8", b"it is 0.6")


def test_a_card_that_is_written_anew_keeps_the_test_scores(tmp_path):
    """As a finished run's is that is resumed; one that was never evaluated has none."""
    card = model_card.ModelCard(
        title="Title",
        example="",
        settings={"lora_rank": 0, "pretrained": "none", "model_size": "tiny"},
        shape="It is small.",
        metadata=header(splits={name: {"examples": 1} for name in ("train", "validation")}),
        history=HISTORY[:1],
        best=HISTORY[0],
        unit="epoch",
    )
    write = functools.partial(card.write, tmp_path, "0.9", {"loss": 1, "accuracy": 1}, "baseline")
    write()
    new = (tmp_path / CARD_FILE).read_bytes()
    assert b"## Test" not in new
    evaluated = written(tmp_path, "it is 0.8", card=new)
    write()
    assert (tmp_path / CARD_FILE).read_bytes() == evaluated


def card_of(tmp_path, rank=0, count=3, unit="epoch", **flags):
    """The card of a run of so many validations."""
    model_card.ModelCard(
        title="Title",
        example="",
        settings={
            **{"lora_rank": rank, "lora_alpha": 16.0, "learning_rate": 2e-4},
            **{"pretrained": "none", "model_size": "tiny"},
            **flags,
        },
        shape="It is small.",
        metadata=header(splits={name: {"examples": 1} for name in ("train", "validation")}),
        history=HISTORY[:count],
        best=HISTORY[0],
        unit=unit,
    ).write(tmp_path, "0.9", {"loss": 1, "accuracy": 1}, "baseline")
    return (tmp_path / CARD_FILE).read_text()


def test_a_card_speaks_in_the_unit_of_its_run(tmp_path):
    assert "those of epoch 1 of 3." in card_of(tmp_path)
    card = card_of(tmp_path, unit="update")
    assert "those of update 1,500 of 4,500." in card
    assert "The update was chosen on this very split" in card


def test_curves_say_how_training_differs(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(model_card, "plot_curves", lambda *_, training, **__: said.append(training))
    card_of(tmp_path)
    card_of(tmp_path, class_weights="balanced", label_smoothing=0.1)
    assert said == ["dropout on", "weighted, smoothed, dropout on"]


def test_one_validation_is_no_choice(tmp_path):
    assert "chosen on this very split" not in card_of(tmp_path, count=1)


@pytest.mark.parametrize(("rank", "listed"), [(0, False), (4, True)])
def test_flags_of_lora_are_listed_where_there_was_lora(tmp_path, rank, listed):
    card = card_of(tmp_path, rank)
    assert ("lora_alpha: 16.0" in card) == listed
    assert f"lora_rank: {rank}" in card


def test_a_run_without_a_card_gets_none_which_would_say_that_it_is_finished(tmp_path):
    report_test_scores(tmp_path, "it is 0.8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [({}, "2 layers of width 128 (size tiny) and "), ({"n_head": 4}, "2 layers of width 128 and ")],
)
def test_a_model_is_named_by_its_own_shape(changes, named):
    config = GPT2Config.from_size("tiny", attn_pdrop=0.3, **changes)
    model = GPT2Classifier(config, num_classes=2, lora={"rank": 2, "alpha": 4}).built_now()
    model.freeze_all_but_lora()
    # Two layers: A and B of attn.c_attn (128 -> 384) and attn.c_proj (128 -> 128); the head.
    tuned = 2 * 2 * (128 + 384 + 128 + 128) + 2 * 128
    base = 50257 * 128 + 1024 * 128 + 2 * (12 * 128**2 + 13 * 128) + 2 * 128
    assert shape_of(model) == (
        f"It has {named}{base + tuned:,} parameters, of which {tuned:,} were tuned."
    )

"""Runs that are opened to be tried: what answers, on which weights, and what is refused."""

import pytest
from chat_runs import left_run, prepared

from gpt2_tuning.chat.opened import BASE, TUNED, open_runs
from gpt2_tuning.commands.chat import texts_of
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.runs.tuned_model import load_tuned


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = prepared(tmp_path_factory.mktemp("home"))
    left_run(home, "first", "form")
    left_run(home, "second", "form", seed=1)
    left_run(home, "elsewhere", "form", base="other-base")
    left_run(home, "whole", "form", lora=False)
    left_run(home, "from-random", "form", lora=False, pretrained="none", model_size="tiny")
    left_run(home, "labels", "classes")
    left_run(home, "pairs", "pairs")
    (home / "unfinished").mkdir()
    for name in ("metadata.json", "options.yaml"):
        (home / "unfinished" / name).write_text((home / "first" / name).read_text())
    left_run(home, "seeds", "form", seeds=3)
    return home


def opened(home, *names, **given):
    return open_runs([home / name for name in names], given, texts_of)


def said(voice, prompt="The sea"):
    return generate_text(voice.model, [prompt], 12, adapters=[voice.choice])[0]


def test_the_base_is_the_runs_own_model_without_its_updates(home):
    (run,) = opened(home, "first")
    assert list(run.voices) == [TUNED, BASE]
    assert run.voices[BASE].model is run.own.model
    plain = LanguageModel.from_pretrained_silently(home / "base")
    assert said(run.voices[BASE]) == generate_text(plain, ["The sea"], 12)[0] != said(run.own)


def test_runs_on_one_base_share_its_weights_and_answer_as_alone(home):
    runs = opened(home, "first", "second")
    assert runs[0].own.model is runs[1].own.model
    assert list(runs[0].voices) == [TUNED, "second", BASE]
    assert list(runs[1].voices) == [TUNED, "first", BASE]
    for run in runs:
        alone = load_tuned(LanguageModel, run.directory)
        assert said(run.own) == generate_text(alone, ["The sea"], 12)[0]
    assert said(runs[0].own) != said(runs[1].own)
    assert runs[0].voices["second"] is runs[1].own


def test_runs_on_other_bases_or_of_other_kinds_have_weights_of_their_own(home):
    runs = opened(home, "first", "elsewhere", "labels", "pairs")
    first, elsewhere, labels, pairs = (run.own.model for run in runs)
    assert len({id(model) for model in (first, elsewhere, labels)}) == 3
    assert pairs is labels
    assert [run.texts for run in runs] == [(), (), ("text",), ("premise", "hypothesis")]
    assert [list(run.voices) for run in runs[2:]] == [[TUNED], [TUNED]]


def test_adapters_join_the_runs_of_their_base_under_their_names(home):
    runs = opened(home, "first", "elsewhere", tone=home / "second" / "adapter")
    assert list(runs[0].voices) == [TUNED, "tone", BASE]
    assert list(runs[1].voices) == [TUNED, BASE]
    (alone,) = opened(home, "second")
    assert said(runs[0].voices["tone"]) == said(alone.own)


def test_a_full_runs_base_is_loaded_beside_it_or_a_note_says_why_not(home):
    (whole,) = opened(home, "whole")
    assert whole.voices[BASE].model is not whole.own.model
    assert said(whole.voices[BASE]) != said(whole.own)
    (random,) = opened(home, "from-random")
    assert list(random.voices) == [TUNED]
    assert random.notes == [
        "no base beside it: the base was random, and a full run does not keep it"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "--run_dir .*nowhere is not there: give the --output_dir of a finished"),
        ("form-data", "form-data holds prepared data, not a run: train on it with"),
        ("base", "base holds the weights of a model, not a run: tune it with"),
        ("first/adapter", "first/adapter is a part of a run: give .*first"),
        ("unfinished", "unfinished holds no tuned model: did its training finish"),
        ("seeds", "seeds holds a run for each seed: give one of them"),
    ],
)
def test_what_is_no_finished_run_is_told_what_it_is(home, name, message):
    with pytest.raises(UserError, match=message):
        opened(home, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elsewhere", "--adapter tone: .*the adapter's base.* has other weights than the model's"),
        (
            "labels",
            "--adapter tone: .*the adapter has a classifier's head, but the model is no classifier",
        ),
        ("nowhere", "--adapter .*nowhere is not there: give a directory with adapter_config"),
        ("unfinished", "the run left no adapter: did it finish"),
    ],
)
def test_an_adapter_that_is_for_none_of_the_bases_is_refused(home, name, message):
    with pytest.raises(UserError, match=message):
        opened(home, "first", tone=home / name)
    with pytest.raises(UserError, match=message):
        opened(home, "first", "second", tone=home / name)

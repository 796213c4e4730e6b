"""What stands side by side on the page is what each voice says alone."""

import itertools
import json

import pytest
from chat_runs import left_run, prepared

from gpt2_tuning.chat import row_files, writing
from gpt2_tuning.chat.opened import BASE, TUNED, open_runs
from gpt2_tuning.commands.chat import texts_of
from gpt2_tuning.data.conversations import ASSISTANT, USER, ConversationText
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.generation import generate_text, stream_text, stream_texts
from gpt2_tuning.inference.generation_settings import Generation

DRAWN = Generation(temperature=1.0, top_k=40, seed=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = prepared(tmp_path_factory.mktemp("home"))
    left_run(home, "form", "form")
    left_run(home, "whole", "form", lora=False)
    left_run(home, "talk", "talk")
    return home


@pytest.fixture(scope="module")
def form(home):
    (run,) = open_runs([home / "form"], {}, texts_of)
    return run


@pytest.fixture(scope="module")
def talk(home):
    (run,) = open_runs([home / "talk"], {}, texts_of)
    return run


def both(run):
    return [run.voices[TUNED], run.voices[BASE]]


def last(streamed):
    (*_, end) = streamed
    return end


def test_streams_of_one_batch_are_those_of_each_prompt_alone(form):
    model, prompts = form.own.model, ["The sea", "One two three four"]
    generations = [DRAWN, Generation(stop=["e"], max_new_tokens=20)]
    choices = ["default", None]
    found = ["", ""]
    for pieces in stream_texts(model, prompts, generations, adapters=choices):
        found = [text + piece for text, piece in zip(found, pieces, strict=True)]
    alone = [
        "".join(stream_text(model, prompt, generation=generation, adapter=choice))
        for prompt, generation, choice in zip(prompts, generations, choices, strict=True)
    ]
    assert found == alone


@pytest.mark.parametrize("name", ["form", "whole"])
def test_answers_grow_to_what_each_voice_says_alone(home, name):
    (run,) = open_runs([home / name], {}, texts_of)
    fields = ("Name a sea.", "It is cold.")
    so_far = list(writing.answers(run, both(run), fields, DRAWN))
    assert len(so_far) > 2
    for earlier, later in itertools.pairwise(so_far):
        assert all(b.startswith(a) for a, b in zip(earlier, later, strict=True))
    for voice, text in zip(both(run), so_far[-1], strict=True):
        prompt = run.responder(voice).prompt(fields)
        assert "It is cold." in prompt
        (alone,) = generate_text(voice.model, [prompt], generation=DRAWN, adapters=[voice.choice])
        assert text == alone.lstrip()


def test_each_goes_on_from_its_own_replies(talk, monkeypatch):
    read = []
    streams = writing.stream_texts

    def watched(model, prompts, *others, **named):
        read.append(prompts)
        return streams(model, prompts, *others, **named)

    monkeypatch.setattr(writing, "stream_texts", watched)
    first = last(writing.replies(talk, both(talk), [[], []], "Name a sea.", DRAWN))
    assert first[0][:1] == first[1][:1] == [{"role": USER, "content": "Name a sea."}]
    assert first[0][1]["role"] == ASSISTANT
    assert first[0] != first[1]
    second = last(writing.replies(talk, both(talk), first, "Another?", DRAWN))
    assert [len(one) for one in second] == [4, 4]
    responder = talk.responder(talk.own)
    for said, prompt in zip(first, read[1], strict=True):
        whole = [*said, {"role": USER, "content": "Another?"}]
        assert prompt == responder.prompt((ConversationText(json.dumps(whole)),))


def test_settings_are_checked_and_stop_strings_are_lines():
    found = writing.generation_of({"temperature": 0.5, "seed": 7}, "END\n\\n\\n\n")
    assert (found.temperature, found.seed, found.stop) == (0.5, 7, ("END", "\n\n"))
    with pytest.raises(UserError, match="seed is empty"):
        writing.generation_of({"seed": None}, "")
    with pytest.raises(UserError, match="top_p must be above 0"):
        writing.generation_of({"top_p": 2}, "")


def test_nothing_and_too_much_are_refused(form, talk):
    with pytest.raises(UserError, match="the instruction is empty"):
        last(writing.answers(form, both(form), (" ", "a"), DRAWN))
    with pytest.raises(UserError, match="are more than the model's 1,024 positions"):
        last(writing.answers(form, both(form), ("word " * 1100, ""), DRAWN))
    with pytest.raises(UserError, match="the message is empty"):
        last(writing.replies(talk, both(talk), [[], []], "", DRAWN))


def test_a_file_is_answered_as_its_rows_are_and_what_cannot_be_is_said(form, tmp_path):
    source, target = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    source.write_text(
        f"n,instruction,context\n1,Name a sea.,\n2,,\n3,{'word ' * 1100},\n4,Why?,No\n"
    )
    columns = row_files.columns_of(form, source)
    assert columns.found == ["n", "instruction", "context"]
    assert columns.chosen == {"instruction": "instruction", "context": "context"}
    voice, chosen = form.voices[BASE], list(columns.chosen.values())
    steps = list(row_files.answer_rows(form, voice, source, target, chosen, DRAWN))
    assert steps[0] == (0, 4)
    assert steps[-1] == (4, 4)
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["n"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["generated"] is None for row in rows] == [False, True, True, False]
    assert "row 2: instruction holds no text" in rows[1]["error"]
    assert "more than the model's 1,024" in rows[2]["error"]
    prompts = [form.responder(voice).prompt(one) for one in (("Name a sea.", ""), ("Why?", "No"))]
    for place, prompt, row in ((0, prompts[0], rows[0]), (3, prompts[1], rows[3])):
        (alone,) = generate_text(
            voice.model, [prompt], first_number=place, generation=DRAWN, adapters=[voice.choice]
        )
        assert row["generated"] == alone.strip()
    shown = row_files.first_rows(target, columns.found, 2)
    assert list(shown[0]) == ["generated", "error", "n", "instruction", "context"]


def test_conversations_of_a_file_are_found(talk, tmp_path):
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    said = [{"role": USER, "content": "Name a sea."}]
    source.write_text(json.dumps({"id": 1, "messages": said}) + "\n")
    columns = row_files.columns_of(talk, source)
    assert columns.chosen == {"message": "messages"}
    last(row_files.answer_rows(talk, talk.own, source, target, ["messages"], DRAWN))
    (row,) = map(json.loads, target.read_text().splitlines())
    (alone,) = last(writing.replies(talk, [talk.own], [[]], "Name a sea.", DRAWN))
    assert row["generated"] == alone[-1]["content"]


def test_who_stops_half_way_leaves_no_file(form, tmp_path):
    source, target = tmp_path / "rows.txt.csv", tmp_path / "out.jsonl"
    source.write_text("instruction\n" + "Name a sea.\n" * 20)
    working = row_files.answer_rows(form, form.own, source, target, ["instruction", None], DRAWN)
    next(working)
    assert next(working) == (8, 20)
    working.close()
    assert not target.exists()
    with pytest.raises(UserError, match="no column is chosen for the instruction"):
        next(row_files.answer_rows(form, form.own, source, target, [None, None], DRAWN))

"""Rows of a running engine say what each says alone, whoever joins or leaves beside them."""

import time

import numpy as np
import pytest
from served_models import TOKENIZER, Heard, alone, engine_of

from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.serving import engine as engine_module
from gpt2_tuning.serving.engine import Busy, Closed
from gpt2_tuning.serving.rows import Asked

pytestmark = pytest.mark.usefixtures("all_bits")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LONG = Generation(max_new_tokens=48)


@pytest.fixture
def engine(model):
    made = engine_of(model, slots=4, queue=64)
    yield made
    assert made.close(60)


def asked_of(number, **changes):
    """A row with a prompt, a length, an adapter and a way to be continued of its own."""
    random = np.random.default_rng(number)
    prompt = " ".join(random.choice(WORDS, random.integers(1, 24)))
    ids = tuple(TOKENIZER.encode(prompt))
    generation = Generation(
        temperature=float(random.choice([0, 0.7, 1.3])),
        top_p=float(random.choice([1, 0.9])),
        repetition_penalty=float(random.choice([1, 1.2])),
        presence_penalty=float(random.choice([0, 2])),
        seed=number,
        max_new_tokens=int(random.integers(1, 64 - len(ids))),
    )
    adapter = [None, "default", "tone", "facts"][number % 4]
    return Asked(ids, generation, adapter, number % 3, **changes)


def test_rows_that_join_and_leave_say_what_each_says_alone(model, engine):
    rows = [asked_of(number, streamed=number % 2 == 0) for number in range(24)]
    heard = [Heard() for _ in rows]
    for row, listener in zip(rows, heard, strict=True):
        engine.submit([(row, listener)])
        time.sleep(0.01)
    for row, listener in zip(rows, heard, strict=True):
        wanted = alone(model, row)
        assert (listener.wait().ended, listener.text) == (wanted.ended, wanted.text)


def test_a_row_joins_in_the_middle_of_anothers_answer(model, engine):
    first, second = Asked((15496,), LONG, "tone", streamed=True), asked_of(5)
    inner, lengths = Heard(), list[int]()

    def join():
        if len(outer.pieces) == 2:
            engine.submit([(second, inner)])
        lengths.append(len(inner.pieces))

    outer = Heard(join)
    engine.submit([(first, outer)])
    assert outer.wait().ended == "length"
    assert inner.wait().ended
    assert lengths[0] == 0
    assert lengths[-1] == 1, "the second had its answer before the first was at its end"
    assert outer.text == alone(model, first).text
    assert inner.text == alone(model, second).text


def test_a_stop_string_ends_a_row_and_no_other(model, engine):
    plain = Asked((15496,), LONG, "facts")
    text = alone(model, plain).text
    stop = text[len(text) // 2 :][:5]
    stopped = Asked((15496,), Generation(max_new_tokens=48, stop=(stop,)), "facts", streamed=True)
    heard = [Heard(), Heard()]
    engine.submit([(plain, heard[0]), (stopped, heard[1])])
    assert [listener.wait().ended for listener in heard] == ["length", "stop"]
    assert heard[0].text == text
    assert heard[1].text == text[: text.find(stop)]


def test_scores_are_of_the_answers_tokens_whether_streamed_or_not(model, engine):
    heard = [Heard(), Heard()]
    prompt = tuple(range(300, 312))
    rows = [Asked(prompt, LONG, "tone", scored=2, streamed=on) for on in (False, True)]
    engine.submit(list(zip(rows, heard, strict=True)))
    for listener in heard:
        listener.wait()
    at_once, piecemeal = (
        [score for piece in one.pieces for score in piece.scores] for one in heard
    )
    ids = alone(model, rows[0]).token_ids
    assert tuple(score.token for score in at_once) == ids
    assert tuple(score.token for score in piecemeal) == ids
    wanted = engine.scorer.score([*prompt, *ids], len(prompt), "tone", 2)
    # Greedy: what was chosen is the likeliest.
    for score, other, own in zip(at_once, piecemeal, wanted, strict=True):
        assert score.log_probability == pytest.approx(own.log_probability, abs=1e-4)
        assert score.likeliest[0] == (score.token, score.log_probability)
        assert len(score.likeliest) == 2
        assert other.log_probability == pytest.approx(score.log_probability, abs=1e-4)
    assert len(heard[1].pieces) > 2


def test_a_row_nobody_waits_for_frees_its_place(engine):
    heard = [Heard() for _ in range(6)]
    rows = [row for listener in heard for row in engine.submit([(Asked((1,), LONG), listener)])]
    engine.leave(rows[:5])
    assert heard[5].wait().ended == "length"
    assert engine.running <= 1
    assert not any(piece.ended for listener in heard[:5] for piece in listener.pieces)


def test_more_than_may_wait_are_refused_together(model):
    engine = engine_of(model, slots=1, queue=3)
    told = Heard(lambda: time.sleep(0.3))
    try:
        engine.submit([(Asked((1,), LONG, streamed=True), told)])
        while not told.pieces:
            time.sleep(0.01)
        heard = Heard()
        engine.submit([(Asked((2,), Generation(max_new_tokens=1)), heard)] * 2)
        with pytest.raises(Busy) as refused:
            engine.submit([(Asked((3,), LONG), Heard())] * 2)
        assert 1 <= refused.value.seconds <= 60
        assert engine.waiting == 2
        assert heard.wait().ended == heard.wait().ended == "length"
    finally:
        assert engine.close(60)
    with pytest.raises(Closed):
        engine.submit([(Asked((1,), LONG), Heard())])


def test_a_row_ends_at_its_deadline_whether_it_runs_or_waits(model):
    engine = engine_of(model, slots=1)
    heard = [Heard(lambda: time.sleep(0.1)), Heard()]
    late = time.monotonic() + 0.2
    engine.submit([(Asked((1,), LONG, streamed=True, deadline=late), heard[0])])
    engine.submit([(Asked((1,), LONG, deadline=late), heard[1])])
    assert [listener.wait().ended for listener in heard] == ["late", "late"]
    assert engine.close(60)


def test_closing_finishes_what_is_there(model):
    engine = engine_of(model, slots=2)
    heard = [Heard() for _ in range(5)]
    for listener in heard:
        engine.submit([(Asked((1,), LONG), listener)])
    job = engine.run(lambda: "done")
    assert engine.close(60)
    assert {listener.wait().ended for listener in heard} == {"length"}
    assert job.result(0) == "done"


def test_what_fails_is_told_and_the_next_is_answered(model, engine, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(engine._batch, "advance", lambda count: 1 / 0)
        heard = Heard()
        engine.submit([(Asked((1,), LONG), heard)])
        assert heard.wait().ended == "failed"
    heard, row = Heard(), Asked((1,), LONG)
    engine.submit([(row, heard)])
    assert (heard.wait().ended, heard.text) == ("length", alone(model, row).text)
    assert isinstance(engine.run(lambda: 1 / 0).exception(60), ZeroDivisionError)
    assert engine.run(lambda: 3).result(60) == 3


def test_prompts_read_together_are_bounded(model, engine, monkeypatch):
    """A flood of long prompts is read a few at a time."""
    monkeypatch.setattr(engine_module, "PROMPT_TOKENS", 40)
    read, sizes = engine._batch.read, []

    def measured(prompts, *rest):
        sizes.append(max(map(len, prompts)) * len(prompts))
        return read(prompts, *rest)

    monkeypatch.setattr(engine._batch, "read", measured)
    heard = [Heard() for _ in range(6)]
    rows = [Asked(tuple(range(1, 16)), Generation(max_new_tokens=2)) for _ in heard]
    engine.submit(list(zip(rows, heard, strict=True)))
    for listener in heard:
        listener.wait()
    assert max(sizes) <= 40

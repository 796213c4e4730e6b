"""Penalties and n-grams do to each row's scores what their sources say, and to others nothing."""

import math

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.inference import penalties
from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.penalties import NO_TOKEN, penalised

VOCABULARY = 12


def ours(logits, prompts, news, generations):
    """Float32 [B, V]: the scores of rows that are padded as a cache is."""
    room, length = max(map(len, prompts)), max(map(len, news))
    history = np.full((len(prompts), room + length), NO_TOKEN, np.int32)
    for row, (prompt, new) in enumerate(zip(prompts, news, strict=True)):
        history[row, room - len(prompt) : room] = prompt
        history[row, room : room + len(new)] = new
    prompted = tf.fill([len(prompts)], room)
    values = RowValues.of(generations)
    scores, filled = tf.constant(logits, tf.float32), room + length
    history = np.pad(history, [[0, 0], [0, 3]], constant_values=NO_TOKEN)  # room for more
    return penalised(scores, history, filled, prompted, values).numpy()


def written_out(logits, prompt, new, generation):
    """One row's scores as the sources define them, token by token."""
    scores, said = np.array(logits, np.float64), [*prompt, *new]
    for token in set(said):
        factor = generation.repetition_penalty
        scores[token] = scores[token] * factor if scores[token] < 0 else scores[token] / factor
    for token in set(new):
        scores[token] -= generation.frequency_penalty * new.count(token)
        scores[token] -= generation.presence_penalty
    n = generation.no_repeat_ngram
    for first in range(len(said) - n + 1) if n else ():
        if said[first : first + n - 1] == said[len(said) - n + 1 :]:
            scores[said[first + n - 1]] = -math.inf
    return scores


def one(logits, prompt, new, **values):
    return ours([logits], [prompt], [new], [Generation(**values)])[0].tolist()


def test_the_repetition_penalty_lowers_what_was_said_by_the_prompt_or_since_and_once():
    assert one([2.0, -2.0, 4.0, 3.0], [0, 1], [2, 2], repetition_penalty=2.0) == [1, -4, 2, 3]
    assert one([2.0, -2.0, 4.0, 3.0], [0, 1], [2, 2], repetition_penalty=0.5) == [4, -1, 8, 3]


def test_the_presence_penalty_is_on_new_tokens_and_the_frequency_penalty_on_each_time():
    assert one([1.0, 1.0, 1.0], [0, 0], [2, 2, 1], presence_penalty=0.5) == [1, 0.5, 0.5]
    assert one([1.0, 1.0, 1.0], [0, 0], [2, 2, 1], frequency_penalty=0.5) == [1, 0.5, 0]
    assert one([1.0, 1.0], [0], [1], presence_penalty=-1, frequency_penalty=0.25) == [1, 1.75]


@pytest.mark.parametrize(
    ("n", "prompt", "new", "banned"),
    [
        (2, [5, 6, 7], [5], {6}),
        (2, [5, 6, 5, 7], [5], {6, 7}),
        (3, [5, 6, 7], [5], set()),
        (3, [5, 6, 7], [5, 6], {7}),
        (2, [5, 5], [], {5}),
        (1, [5, 6], [7], {5, 6, 7}),
        (4, [5], [6, 7], set()),
        (9, [5, 5, 5], [5, 5], set()),
    ],
)
def test_no_ngram_comes_twice(n, prompt, new, banned):
    scores = one([1.0] * VOCABULARY, prompt, new, no_repeat_ngram=n)
    assert {token for token, score in enumerate(scores) if score == -math.inf} == banned
    assert {score for score in scores if score != -math.inf} <= {1}


def test_every_row_of_a_mixture_is_as_its_sources_define_it():
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCABULARY, n).tolist() for n in (1, 9, 30, 4, 17, 8, 25)]
    news = [rng.integers(0, VOCABULARY, 20).tolist() for _ in prompts]
    news[3] = news[3][:5]  # a finished row
    generations = [
        Generation(),
        Generation(repetition_penalty=1.3),
        Generation(presence_penalty=0.7),
        Generation(frequency_penalty=-1.1),
        Generation(no_repeat_ngram=2),
        Generation(no_repeat_ngram=3, repetition_penalty=0.8),
        Generation(
            repetition_penalty=1.2, presence_penalty=2, frequency_penalty=0.1, no_repeat_ngram=1
        ),
    ]
    logits = rng.normal(0, 3, (len(prompts), VOCABULARY)).astype(np.float32)
    found = ours(logits, prompts, news, generations)
    expected = np.stack(
        [written_out(*row) for row in zip(logits, prompts, news, generations, strict=True)]
    )
    rows = [0, 1, 2, 4, 5, 6]
    np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-5)
    assert found[0].tolist() == logits[0].tolist()
    assert np.isinf(found).sum() > 3
    assert (found[1:] != logits[1:]).any(axis=1).all()


def test_ids_of_a_prompt_that_have_no_score_are_passed_over():
    everything = {"repetition_penalty": 2.0, "presence_penalty": 1.0, "no_repeat_ngram": 1}
    assert one([2.0, 2.0, 2.0], [7, 0], [1], **everything) == [-math.inf, -math.inf, 2]


def test_what_no_row_asks_for_is_not_computed(monkeypatch):
    for name in ("less_repetition", "less_counted", "without_ngrams"):
        monkeypatch.setattr(penalties, name, None)
    assert one([1.0, 2.0], [0], [1], temperature=0.5, top_p=0.5) == [1, 2]

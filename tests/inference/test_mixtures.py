"""Every way of continuing a prompt is data: mixtures share one loop, and each row is as alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from samples import randomize

from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.inference import choosing
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.generation import generate, generate_text, stream_text
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.responding import Responder
from gpt2_tuning.inference.sampling import Greedy, Sampler, Temperature, TopK, TopP
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.options.testing import GenerationOptions

SHAPE = GPT2Config(n_layer=1, n_embd=32, n_head=4, n_positions=256)
PROMPTS = ["The river", "Once upon a time there was", "7", "Rain, rain, go", "a a a", "b", "c d"]
MIXTURE = [
    Generation(max_new_tokens=18),
    Generation(temperature=0.8, seed=3, max_new_tokens=9),
    Generation(top_k=20, temperature=1.0, stop=("e",), max_new_tokens=20),
    Generation(sampler=TopP(0.3), max_new_tokens=5),
    Generation(temperature=2.0, min_p=0.2, seed=-1, max_new_tokens=12),
    Generation(repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.5),
    Generation(0.7, top_k=50, top_p=0.9, min_p=0.05, no_repeat_ngram=2, max_new_tokens=12),
]
LENGTHS = [generation.max_new_tokens for generation in MIXTURE]


@pytest.fixture(scope="module")
def model():
    return randomize(GPT2LanguageModel(SHAPE).built_now())


@pytest.fixture(scope="module")
def alone(model):
    """Each prompt of the mixture in a batch of its own."""
    rows = enumerate(zip(PROMPTS, MIXTURE, strict=True))
    return [generate(model, [p], generation=g, first_number=n)[0] for n, (p, g) in rows]


def traces(model):
    return decoder_of(model, GPT2Tokenizer.vocabulary, [GPT2Tokenizer.end]).traces


@pytest.mark.parametrize("batch_size", [7, 3])
def test_a_mixture_in_one_batch_is_each_row_alone(model, alone, batch_size):
    found = generate(model, PROMPTS, generation=MIXTURE, batch_size=batch_size)
    assert found == alone
    assert [len(row.token_ids) for row in (found[0], found[3])] == [18, 5]
    assert found[2].ended == "stop"
    plain = generate(model, PROMPTS, generation=[Generation(max_new_tokens=n) for n in LENGTHS])
    assert [number for number, row in enumerate(plain) if row == found[number]] == [0]


def test_no_value_and_no_mixture_makes_another_trace(model, alone):
    before = traces(model)
    values: dict[str, list] = {
        "temperature": [0.0, 0.3, 2.5],
        "top_k": [0, 1, 7],
        "top_p": [0.2, 1.0],
        "min_p": [0.0, 0.5],
        "repetition_penalty": [0.9, 1.7],
        "presence_penalty": [-1, 1],
        "frequency_penalty": [-0.5, 2],
        "no_repeat_ngram": [0, 1, 4],
        "seed": [1, 2],
        "max_new_tokens": [2, 3],
        "stop": [(), ("e", "a")],
    }
    every = [Generation(**{name: value}) for name, some in values.items() for value in some]
    for first in range(0, len(every), 5):
        some = every[first : first + 5]
        generate(model, PROMPTS[: len(some)], generation=some)
    for sampler in (Greedy(), Temperature(0.4), TopK(3), TopK(4, 1.2), TopP(0.5), TopP(0.6)):
        generate_text(model, PROMPTS[:2], 2, sampler)
    assert traces(model) == before == 2


def test_what_no_row_asks_for_is_neither_drawn_nor_sorted(monkeypatch):
    logits, seeds = tf.constant([[1.0, 3.0, 2.0]]), tf.constant([[0, 1]], tf.int64)
    monkeypatch.setattr(choosing, "noise_of", None)
    values = choosing.RowValues.of([Generation(top_k=2, top_p=0.5)])
    assert choosing.next_tokens(logits, seeds, values).numpy().tolist() == [1]
    monkeypatch.undo()
    monkeypatch.setattr(choosing, "draw_from_likeliest", None)
    monkeypatch.setattr(tf.nn, "softmax", None)
    values = choosing.RowValues.of([Generation(temperature=1e-3)])
    assert choosing.next_tokens(logits, seeds, values).numpy().tolist() == [1]


@dataclasses.dataclass(frozen=True)
class Second(Sampler):
    """The likeliest token but one."""

    def choose(self, logits, seeds):
        return tf.math.top_k(logits, 2)[1][:, 1]


class Inherited(TopP):
    """Chooses otherwise than the values it inherits."""

    def choose(self, logits, seeds):
        return tf.argmax(logits, axis=1, output_type=tf.int32)


def test_only_a_sampler_of_ones_own_has_a_loop_of_its_own(model, alone):
    before = traces(model)
    own = Generation(sampler=Second(), repetition_penalty=1.5, max_new_tokens=8)
    mixed = [*MIXTURE[:2], own, *MIXTURE[3:5], own, MIXTURE[6]]
    found = generate(model, PROMPTS, generation=mixed)
    assert traces(model) == before + 1
    assert [found[row] for row in (0, 1, 3, 4, 6)] == [alone[row] for row in (0, 1, 3, 4, 6)]
    assert found[2] == generate(model, PROMPTS[2:3], generation=own)[0]
    assert found[2] != generate(model, PROMPTS[2:3], 8, Second())[0]
    assert traces(model) == before + 1
    assert generate_text(model, PROMPTS, 4, Inherited(0.1)) == generate_text(model, PROMPTS, 4)
    assert traces(model) == before + 2


def test_a_row_at_the_models_end_may_go_with_one_that_has_far_to_go(model):
    prompts = [np.random.default_rng(1).integers(0, 50256, n).tolist() for n in (250, 3)]
    ways = [Generation(max_new_tokens=6), Generation(max_new_tokens=90)]
    found = generate(model, prompts, generation=ways)
    assert [len(row.token_ids) for row in found] == [6, 90]
    for prompt, way, row in zip(prompts, ways, found, strict=True):
        assert generate(model, [prompt], generation=way) == [row]


def test_streaming_goes_by_a_generation_too(model, alone):
    for prompt, generation in zip(PROMPTS[:1], MIXTURE[5:6], strict=True):
        whole = generate_text(model, [prompt], generation=generation)
        assert ["".join(stream_text(model, prompt, generation=generation))] == whole


class Letters(GPT2Tokenizer):
    """A tokenizer of ten ids, one a letter, of which the last ends a text."""

    vocabulary, end = 10, 9

    def encode(self, text):
        return ["abcdefghi".index(letter) for letter in text]

    def decode(self, ids, skip_end_of_text=False):
        return "".join("abcdefghi"[token] for token in ids)


def test_ids_are_those_of_the_tokenizer_that_is_given(model):
    ways = [Generation(temperature=3.0, seed=seed, max_new_tokens=20) for seed in range(4)]
    found = generate(model, ["abc"] * 4, generation=ways, tokenizer=Letters())
    assert all(set(row.text) <= set("abcdefghi") for row in found)
    assert {row.ended for row in found} >= {"end_of_text"}
    assert len({letter for row in found for letter in row.text}) > 5


# --- the value -------------------------------------------------------------------------------


def test_built_in_samplers_are_values():
    assert Generation(sampler=Greedy()) == Generation()
    assert Generation(sampler=Temperature(0.7)) == Generation(temperature=0.7)
    assert Generation(sampler=TopK(3, 0.7)) == Generation(temperature=0.7, top_k=3)
    assert Generation(sampler=TopP(0.5)) == Generation(temperature=1.0, top_p=0.5)
    assert Generation(sampler=Second()).sampler == Second()
    assert Generation(stop="x").stop == ("x",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature must be a number of at least 0, not -0.1"),
        ({"temperature": float("nan")}, "temperature must be a number of at least 0, not nan"),
        ({"top_k": -1}, "top_k must be a whole number of at least 0"),
        ({"top_k": 1.5}, "top_k must be a whole number of at least 0"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, not 0"),
        ({"min_p": 1.1}, r"min_p must be from 0 to 1, not 1\.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0, not 0"),
        ({"presence_penalty": 2.5}, r"presence_penalty must be from -2 to 2, not 2\.5"),
        ({"frequency_penalty": "1"}, "frequency_penalty must be from -2 to 2, not '1'"),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram must be a whole number of at least 0"),
        ({"no_repeat_ngram": True}, "no_repeat_ngram must be a whole number of at least 0"),
        ({"seed": 2**63}, "seed must be a whole number of 64 bits"),
        ({"stop": ["a", ""]}, "a stop string is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"sampler": TopP}, r"sampler must be a Sampler such as TopP\(0\.9\), not <class"),
        ({"sampler": TopP(0.9), "temperature": 0.5}, "chooses by itself: leave out temperature"),
        ({"sampler": Second(), "min_p": 0.5}, "the sampler chooses by itself: leave out min_p"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_the_fields_name(values, message):
    with pytest.raises(UserError, match=message):
        Generation(**values)


def test_a_generation_comes_for_all_prompts_or_for_each_and_instead_of_the_arguments(model):
    with pytest.raises(UserError, match="2 generations for 3 prompts: give one, or one for each"):
        generate_text(model, PROMPTS[:3], generation=MIXTURE[:2])
    for other in ({"max_new_tokens": 5}, {"sampler": TopP(0.9)}, {"seed": 1}, {"stop": "x"}):
        with pytest.raises(UserError, match="generation has max_new_tokens, sampler, seed and s"):
            generate_text(model, PROMPTS[:3], generation=MIXTURE[0], **other)


@pytest.mark.parametrize(
    ("flags", "generation"),
    [
        ({}, Generation(max_new_tokens=128)),
        (
            {"sampling_method": "temperature", "temperature": 0.7, "min_p": 0.1, "seed": 4},
            Generation(temperature=0.7, min_p=0.1, seed=4, max_new_tokens=128),
        ),
        ({"sampling_method": "top_k"}, Generation(sampler=TopK(50), max_new_tokens=128)),
        (
            {"sampling_method": "top_p", "top_p": 0.5, "stop": ("a",), "max_new_tokens": 3},
            Generation(sampler=TopP(0.5), stop=("a",), max_new_tokens=3),
        ),
        (
            {
                "repetition_penalty": 1.1,
                "presence_penalty": 0.2,
                "frequency_penalty": 0.3,
                "no_repeat_ngram": 4,
            },
            Generation(0, 0, 1, 0, 1.1, 0.2, 0.3, 4, max_new_tokens=128),
        ),
    ],
)
def test_the_flags_of_a_test_script_are_a_generation(model, flags, generation):
    assert Responder(model, None, GenerationOptions(**flags)).settings() == generation

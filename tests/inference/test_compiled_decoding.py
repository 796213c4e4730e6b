"""The loop that XLA compiles gives the plain loop's tokens, and is compiled for few shapes."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from samples import randomize

from gpt2_tuning.families import known
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.inference import philox
from gpt2_tuning.inference.batch import Batch
from gpt2_tuning.inference.choosing import CANDIDATES, RowValues, noise_of
from gpt2_tuning.inference.compiled_decoding import TURNS, CompiledDecoder, power_of_two, with_room
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.inference.generation import generate, stream_text
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.sampling import Sampler
from gpt2_tuning.models.device_choices import CPU, GPU, choosing
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("all_bits")

VOCABULARY = 1500  # more than are sorted for a small top_k
SHAPE = GPT2Config(n_layer=1, n_embd=32, n_head=4, n_positions=512, vocab_size=VOCABULARY)
WAYS = {
    "greedy": Generation(max_new_tokens=20),
    "temperature": Generation(temperature=0.8, seed=3, max_new_tokens=9),
    "top_k": Generation(top_k=20, temperature=1.0, seed=-4, max_new_tokens=15),
    "large top_k": Generation(top_k=1200, temperature=5.0, max_new_tokens=15),
    "top_p": Generation(top_p=0.3, temperature=1.0, seed=2**62, max_new_tokens=15),
    "flat top_p": Generation(top_p=0.999, temperature=50.0, seed=1, max_new_tokens=15),
    "min_p": Generation(temperature=2.0, min_p=0.2, seed=-1, max_new_tokens=12),
    "penalties": Generation(repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.5),
    "n-grams": Generation(no_repeat_ngram=2, max_new_tokens=30),
    "all": Generation(
        0.7, top_k=50, top_p=0.9, min_p=0.05, repetition_penalty=1.2, no_repeat_ngram=3
    ),
}
CASES = {**{name: [way] * len(WAYS) for name, way in WAYS.items()}, "mixed": list(WAYS.values())}
"""Batches of as many rows, so that all are of one shape."""


def rows_of(lengths, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, length).tolist() for length in lengths]


SOME, NONE = list(range(0, VOCABULARY, 30)), [VOCABULARY]
"""Ids that end a row, of which random ones are found soon or never."""
PROMPTS = rows_of(range(3, 3 + len(WAYS)))


@pytest.fixture(scope="module")
def model():
    return randomize(GPT2LanguageModel(SHAPE).built_now())


def decoder(model, ends=SOME):
    return decoder_of(model, model.config.decoder.vocabulary, ends)


def continued(model, prompts, ways, count=TURNS, ends=SOME):
    """Every row's tokens, int32 [B, n], by the decoder of the choices that hold."""
    batch = Batch(decoder(model, ends), prompts, range(len(prompts)), ways)
    parts = []
    while not batch.done:
        parts.append(batch.advance(count))
    return np.concatenate(parts, axis=1).tolist()


def plainly_continued(*arguments, **settings):
    """The same in the loop of CPUs."""
    with choosing(CPU):
        return continued(*arguments, **settings)


def module(model, name, stage="hlo"):
    """What XLA is given of a function, or makes of it, as text: `begin` or `add`, of two rows."""
    decoder_ = decoder(model)
    weights, values = decoder_.weights(), RowValues.of([Generation()] * 2)
    state = Decoder.start(decoder_, weights, rows_of([5, 3]), [0, 1], values)
    history, rows = tf.constant([[1] * 16] * 2), tf.constant([0, 1], tf.int64)
    given = {
        "begin": (history, tf.constant(5), rows, values, ()),
        "add": (with_room(state, TURNS), tf.constant(3)),
    }
    function = getattr(decoder_, name)
    return function.experimental_get_compiler_ir(weights, *given[name])(stage=stage)


# --- the same tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_tokens_are_those_of_the_plain_loop(model, case):
    expected = plainly_continued(model, PROMPTS, CASES[case])
    with choosing(GPU):
        assert continued(model, PROMPTS, CASES[case]) == expected
        # One shape of prompts and one of the cache: whatever is asked, both are compiled once.
        assert decoder(model).traces == 2
    assert len({tuple(row) for row in expected}) == len(PROMPTS)


def test_other_lengths_of_prompts_and_answers_compile_nothing(model):
    ways = [Generation(max_new_tokens=5)] * len(WAYS)
    with choosing(GPU):
        continued(model, PROMPTS, ways)
        before = decoder(model).traces
        for longest, new, count in ((16, 64, 64), (14, 110, 4), (1, 30, 7), (16, 112, 16)):
            prompts = rows_of([1, longest, *[2] * (len(WAYS) - 2)])
            prompts = [row[:longest] for row in prompts]
            continued(model, prompts, [Generation(max_new_tokens=new)] * len(WAYS), count)
        assert decoder(model).traces == before
        for longest in (17, 25, 32):  # read in another shape, continued in the same
            continued(model, rows_of([longest] * len(WAYS)), ways)
        assert decoder(model).traces == before + 1


def test_other_numbers_of_rows_compile_nothing_up_to_a_power_of_two(model):
    prompts = rows_of([5] * 8)
    ways = [dataclasses.replace(WAYS["temperature"], seed=seed) for seed in range(8)]
    expected = plainly_continued(model, prompts, ways, ends=NONE)
    with choosing(GPU):
        assert continued(model, prompts, ways, ends=NONE) == expected
        before = decoder(model, NONE).traces
        for count in (5, 6, 7):
            found = continued(model, prompts[:count], ways[:count], 4, ends=NONE)
            assert found == expected[:count]
        assert decoder(model, NONE).traces == before


def test_a_row_that_its_stop_ends_leaves_the_copies_out(model):
    ways = [Generation(stop=stop, max_new_tokens=12) for stop in (("e",), ("zzzz",), ("a", "i"))]
    with choosing(CPU):
        expected = generate(model, PROMPTS[:3], generation=ways)
    with choosing(GPU):
        assert generate(model, PROMPTS[:3], generation=ways) == expected
    assert {one.ended for one in expected} >= {"stop"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [200, TURNS, 4])
def test_slots_grow_by_doubling_and_lose_nothing(model, count):
    prompts, ways = rows_of([100, 3]), [Generation(max_new_tokens=n) for n in (180, 300)]
    expected = plainly_continued(model, prompts, ways, ends=NONE)
    with choosing(GPU):
        before = decoder(model, NONE).traces
        assert continued(model, prompts, ways, count, NONE) == expected
        # 128 for the prompts; 128, 256 and 512 for the loop, at most.
        assert decoder(model, NONE).traces <= before + 4
        state = decoder(model, NONE).start(
            decoder(model, NONE).weights(), prompts, [0, 1], RowValues.of(ways)
        )
    sizes = [with_room(state, more).cache.mask.shape[1] for more in (1, 28, 29, 156, 157)]
    assert sizes == [128, 128, 256, 256, 512]


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "qwen3": {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_rotary_positions_windows_and_groups_of_heads_go_with_it(family):
    fields = {
        **{"model_type": family, "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"head_dim": 16, "initializer_range": 0.2, "max_position_embeddings": 64},
    }
    model = LanguageModel(known.config_of({**fields, **FAMILIES[family]})).built_now()
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(variable + rng.normal(0, 0.2, variable.shape))
    prompts = [[token % 61 for token in row] for row in rows_of([9, 3])]
    ways = [Generation(max_new_tokens=40), Generation(max_new_tokens=30, temperature=1.0)]
    expected = plainly_continued(model, prompts, ways, ends=NONE)
    with choosing(GPU):
        assert continued(model, prompts, ways, ends=NONE) == expected
    assert len(set(expected[1])) > 5


@pytest.mark.slow
def test_stop_strings_and_streams_go_on_as_they_do(model):
    ways = [Generation(stop=("a", "in"), max_new_tokens=30), WAYS["top_k"]]
    expected = [
        generate(model, [row], generation=way) for row, way in zip(PROMPTS[:2], ways, strict=True)
    ]
    with choosing(GPU):
        found = [
            generate(model, [row], generation=way)
            for row, way in zip(PROMPTS[:2], ways, strict=True)
        ]
        pieces = list(stream_text(model, PROMPTS[1], generation=ways[1]))
    assert found == expected
    assert expected[0][0].ended == "stop"
    assert "".join(pieces) == expected[1][0].text
    assert len(pieces) > 2


@dataclasses.dataclass(frozen=True)
class InPython(Sampler):
    """The likeliest token but one, in Python, which XLA cannot compile."""

    def choose(self, logits, seeds):
        def second(scores):
            return np.argsort(-scores, axis=1)[:, 1].astype(np.int32)

        return tf.ensure_shape(tf.numpy_function(second, [logits], tf.int32), [None])


def test_a_sampler_of_ones_own_need_not_be_such_as_xla_compiles(model):
    ways = [Generation(sampler=InPython(), max_new_tokens=n) for n in (6, 9)]
    expected = plainly_continued(model, PROMPTS[:2], ways, ends=NONE)
    with choosing(GPU):
        assert continued(model, PROMPTS[:2], ways, ends=NONE) == expected
    assert expected != plainly_continued(
        model, PROMPTS[:2], [Generation(max_new_tokens=n) for n in (6, 9)], ends=NONE
    )


def test_a_cpu_has_the_plain_decoder(model):
    with choosing(CPU):
        assert type(decoder(model)) is Decoder
    with choosing(GPU):
        assert type(decoder(model)) is CompiledDecoder


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("count", [1, 6, 1003])
def test_noise_is_tensorflows_own_to_the_bit(compiled, count):
    seeds = tf.constant([[5, 7], [-3, 2**40 + 1], [2**62, 0], [0, -1]], tf.int64)
    function = tf.function(philox.uniform, jit_compile=compiled)
    np.testing.assert_array_equal(
        np.maximum(function(seeds, count).numpy(), 1e-37), noise_of(seeds, count).numpy()
    )


def test_the_cases_go_beyond_what_is_sorted_for_a_small_top_k():
    assert CANDIDATES < WAYS["large top_k"].top_k < VOCABULARY


# --- what is compiled ------------------------------------------------------------------------


def test_the_loop_is_one_module_of_static_shapes_in_which_lengths_are_data(model):
    with choosing(GPU):
        texts = {name: module(model, name) for name in ("begin", "add")}
        optimized = module(model, "add", "optimized_hlo")
    for name, numbers in (("begin", 1), ("add", 2)):
        text = texts[name]
        assert "<=" not in text  # which marks a size that is a bound
        assert "custom-call" not in text
        entry = text[text.index("ENTRY ") :]
        # XLA compiles anew for each value of an argument that it must know.
        assert len(re.findall(r"s32\[\](?:\{\})? parameter\(", entry)) == numbers
    cache = r"f32\[2,4,128,8\]"
    entry = optimized[optimized.index("ENTRY ") :]
    (loop,) = re.findall(rf"= \(.*{cache}.* while\(", entry)
    assert len(re.findall(cache, loop)) == 2 * SHAPE.n_layer
    # The keys and values so far are copied once: in the loop they are written in place.
    body = optimized[: optimized.index("ENTRY ")]
    assert re.search(rf"{cache}\S* dynamic-update-slice\(", body)
    assert not re.search(rf"{cache}\S* (copy|select|scatter|concatenate|pad)\(", body)


@pytest.fixture(scope="module")
def rough():
    return randomize(GPT2LanguageModel(SHAPE, dtype="mixed_bfloat16").built_now())


def test_sixteen_bit_weights_are_read_as_they_are(rough):
    with choosing(GPU):
        texts = [module(rough, name) for name in ("begin", "add")]
    sizes = {tuple(weight.shape) for weight in rough.weights if len(weight.shape) == 2}
    sizes.add((32, VOCABULARY))  # the head
    for text in texts:
        converted = re.findall(r"\w+\[([\d,]+)\]\S* convert\(", text)
        assert converted
        assert not sizes & {tuple(map(int, size.split(","))) for size in converted}
        assert re.search(rf"bf16\[{VOCABULARY},32\]\S* parameter\(", text)
        assert re.search(rf"bf16\[32,{VOCABULARY}\]\S* parameter\(", text)


def test_sixteen_bit_decoding_is_the_models_own_full_pass(rough):
    prompts = rows_of([12, 5])
    with choosing(GPU):
        found = continued(rough, prompts, [Generation(max_new_tokens=12)] * 2, ends=NONE)
    for prompt, tokens in zip(prompts, found, strict=True):
        row = tf.constant([prompt + tokens])
        logits = rough({"token_ids": row, "attention_mask": tf.ones_like(row)}).numpy()[0]
        for scores, token in zip(logits[len(prompt) - 1 :], tokens, strict=False):
            # A near tie may fall otherwise, bfloat16 having three digits; a wrong cache may not.
            assert scores[token] > scores.max() - 0.02 * np.ptp(scores)


def test_powers_of_two_are_the_least_that_suffice():
    counts = (1, 2, 3, 16, 17, 128, 129)
    assert [power_of_two(count) for count in counts] == [1, 2, 4, 16, 32, 128, 256]

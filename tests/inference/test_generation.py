"""Decoding is exact: cached, batched, padded, stopped or streamed, the tokens are the same."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from samples import randomize

from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT, GPT2Config
from gpt2_tuning.inference import generation
from gpt2_tuning.inference.batch import Batch
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.decoding import STEPS
from gpt2_tuning.inference.generation import generate, generate_text, stream_text
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.sampling import Greedy, Sampler, Temperature, TopK, TopP
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel

TOKENIZER = GPT2Tokenizer()
PROMPTS = ["The river", "Once upon a time there was", "7", "Rain, rain, go"]
SHAPE = GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=256)


@pytest.fixture(scope="module")
def model():
    return randomize(GPT2LanguageModel(SHAPE).built_now())


def decoder(model):
    """As generation has it."""
    return decoder_of(model, TOKENIZER.vocabulary, [TOKENIZER.end])


def generate_ids(*arguments, **settings):
    return [list(found.token_ids) for found in generate(*arguments, **settings)]


class Script(Sampler):
    """Says what it is told, row by row, and 50256 from then on. One instance, to be traced once."""

    def __init__(self):
        self.table = tf.Variable([[0]], shape=[None, None], dtype=tf.int32)

    def choose(self, logits, seeds):
        last = tf.cast(tf.shape(self.table)[1], tf.int64) - 1
        row, step = seeds[:, 1] // STEPS, tf.minimum(seeds[:, 1] % STEPS, last)
        return tf.gather_nd(self.table.read_value(), tf.stack([row, step], axis=1))

    def says(self, *rows):
        """Takes the rows, texts or token ids."""
        ids = [TOKENIZER.encode(row) if isinstance(row, str) else row for row in rows]
        length = max(map(len, ids)) + 1
        self.table.assign([[*row, *[END_OF_TEXT] * (length - len(row))] for row in ids])
        return self


@pytest.fixture(scope="module")
def script():
    return Script()


def random_rows(lengths, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, END_OF_TEXT, length).tolist() for length in lengths]


@pytest.fixture(scope="module")
def recomputed(model):
    """Greedy continuation without a cache: the whole row again for every token."""

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)])
    def next_token(ids):
        at = tf.shape(ids)[1:][tf.newaxis] - 1
        mask = tf.ones_like(ids)
        inputs = {"token_ids": ids, "attention_mask": mask, "target_positions": at}
        return tf.argmax(model(inputs)[0, 0])

    def continued(prompt, count):
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(next_token(tf.constant([ids]))))
        return ids[len(prompt) :]

    return continued


def test_cached_decoding_equals_full_recomputation(model, recomputed):
    prompts = random_rows([9, 31, 1])
    found = generate_ids(model, prompts, max_new_tokens=200)
    for prompt, ids in zip(prompts, found, strict=True):
        assert len(ids) == 200
        assert len(set(ids)) > 20
        assert ids == recomputed(prompt, 200)


@pytest.mark.parametrize("sampler", [Greedy(), Temperature(0.8), TopK(20), TopP(0.3)], ids=str)
def test_a_batch_equals_its_rows_alone(model, sampler):
    together = generate_text(model, PROMPTS, 12, sampler, seed=4)
    assert len(set(together)) == len(PROMPTS)
    for size in (1, 3):
        assert generate_text(model, PROMPTS, 12, sampler, seed=4, batch_size=size) == together
    assert generate_text(model, PROMPTS[:1], 12, sampler, seed=4) == together[:1]


def test_greedy_equals_transformers_generate(transformers):
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=4, initializer_range=0.2)
    theirs = transformers.TFGPT2LMHeadModel(config)
    theirs.build()
    ours = GPT2LanguageModel(GPT2Config.from_dict(config.to_dict()))
    ours.load_tf_gpt2(theirs)
    found = generate(ours, PROMPTS, 24)
    ids = TOKENIZER.encode_batch(PROMPTS)
    length = max(map(len, ids))
    expected = theirs.generate(
        tf.constant([[0] * (length - len(row)) + row for row in ids]),
        attention_mask=tf.constant([[0] * (length - len(row)) + [1] * len(row) for row in ids]),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=END_OF_TEXT,
    )[:, length:].numpy()
    for row, continuation in zip(expected, found, strict=True):
        assert list(continuation.token_ids) == row.tolist()
        assert continuation.text == TOKENIZER.decode(row)


def test_a_seed_gives_the_same_text_and_another_seed_another(model):
    first, second, third = (
        generate_text(model, [PROMPTS[0]] * 2, 12, Temperature(1.0), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != third
    assert first[0] != first[1]  # the same prompt twice is two samples


@pytest.mark.parametrize("chunk", [1, 5])
def test_results_do_not_depend_on_how_many_tokens_are_computed_at_a_stretch(
    model, monkeypatch, chunk
):
    expected = generate(model, PROMPTS, 20, TopK(20), stop=["the", "q"])
    monkeypatch.setattr(generation, "STOP_CHUNK", chunk)
    assert generate(model, PROMPTS, 20, TopK(20), stop=["the", "q"]) == expected


def test_each_row_ends_at_its_own_end_of_text(model, script):
    script.says("one two", "", "a long answer that is cut off")
    found = generate(model, PROMPTS[:3], 4, script)
    assert [row.text for row in found] == ["one two", "", "a long answer that"]
    assert [row.ended for row in found] == ["end_of_text", "end_of_text", "length"]
    assert found[1].token_ids == ()
    assert list(found[0].token_ids) == TOKENIZER.encode("one two")


def test_the_loop_ends_with_its_last_row(model, script):
    script.says("one", "one two three")
    batch = Batch(decoder(model), random_rows([3, 5]), [0, 1], [Generation(sampler=script)] * 2)
    assert batch.advance(50).tolist() == [TOKENIZER.encode("one")] * 2
    tokens = batch.advance(50)
    assert tokens.tolist() == [[END_OF_TEXT] * 3, [*TOKENIZER.encode(" two three"), END_OF_TEXT]]
    assert batch.done


def test_stop_strings_end_a_row_and_are_not_shown(model, script):
    script.says("Yes.\n\n### Next: no", "never stops here", "ends END ")
    found = generate(model, PROMPTS[:3], 12, script, stop=["\n\n###", " END"])
    assert [row.text for row in found] == ["Yes.", "never stops here", "ends"]
    assert [row.ended for row in found] == ["stop", "end_of_text", "stop"]
    assert TOKENIZER.decode(found[0].token_ids) == "Yes."


def test_a_stop_string_may_begin_and_end_within_tokens(model, script):
    ids = TOKENIZER.encode("some wonderful things")
    assert [TOKENIZER.decode([token]) for token in ids] == ["some", " wonderful", " things"]
    found = generate(model, ["x"], 9, script.says("some wonderful things"), stop="ful thi")[0]
    assert found.text == "some wonder"
    assert found.token_ids == tuple(ids[:1])


def test_of_several_stop_strings_the_first_to_be_complete_counts(model, script):
    script.says("xabcdz")
    assert generate_text(model, ["x"], 9, script, stop=["abcd", "bc"]) == ["xa"]
    assert generate_text(model, ["x"], 9, script, stop=["bc", "abc"]) == ["x"]


def test_rows_that_are_stopped_do_not_keep_the_loop_running(model, script, monkeypatch):
    counts, extend = [], decoder(model).extend

    def counted(weights, state, count, sampler):
        counts.append(count)
        return extend(weights, state, count, sampler)

    monkeypatch.setattr(decoder(model), "extend", counted)
    script.says("stop" * 60)
    assert generate_text(model, ["x"], 100, script, stop=["stopstop"]) == [""]
    assert counts == [generation.STOP_CHUNK]


@pytest.mark.parametrize("chunk", [1, 4])
def test_streamed_pieces_join_to_the_whole_text(model, monkeypatch, chunk):
    monkeypatch.setattr(generation, "STREAM_CHUNK", chunk)
    for prompt in PROMPTS:
        pieces = list(stream_text(model, prompt, 30, TopK(5000, 2.0), seed=3, stop=["e"]))
        whole = generate_text(model, [prompt], 30, TopK(5000, 2.0), seed=3, stop=["e"])
        assert ["".join(pieces)] == whole
        assert all(pieces)


def test_streaming_never_gives_half_a_character(model, monkeypatch, script):
    monkeypatch.setattr(generation, "STREAM_CHUNK", 1)
    text = "naïve 漢字 🙂🧬 ok"
    assert sum("\ufffd" in TOKENIZER.decode([token]) for token in TOKENIZER.encode(text)) > 5
    pieces = list(stream_text(model, "x", 40, script.says(text)))
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert "\ufffd" not in "".join(pieces)


def test_bytes_that_never_become_a_character_are_shown_in_the_end(model, script, monkeypatch):
    monkeypatch.setattr(generation, "STREAM_CHUNK", 1)
    script.says(TOKENIZER.encode("a🧬")[:-1])
    assert list(stream_text(model, "x", 9, script)) == ["a", "\ufffd"]
    assert generate_text(model, ["x"], 9, script) == ["a\ufffd"]


def test_streaming_holds_back_what_may_begin_a_stop_string(model, monkeypatch, script):
    monkeypatch.setattr(generation, "STREAM_CHUNK", 1)
    script.says(TOKENIZER.encode("go #") + TOKENIZER.encode("1 #") + [2, 2, 2])
    assert TOKENIZER.decode([2]) == "#"
    pieces = list(stream_text(model, "x", 12, script, stop=["###", "zz"]))
    assert pieces == ["go", " ", "#1", " "]
    pieces = list(stream_text(model, "x", 12, script.says("one #"), stop=["##"]))
    assert pieces[-1] == "#"  # nothing follows, so it was none


def test_lora_switch_and_new_weights_count_without_retracing():
    shape = dataclasses.replace(SHAPE, n_layer=1)
    tuned = randomize(GPT2LanguageModel(shape, lora={"rank": 2, "alpha": 4}).built_now())
    on = generate_text(tuned, PROMPTS, 6)
    for seed in (0, 1):
        base = randomize(GPT2LanguageModel(shape).built_now(), seed)
        randomize(tuned, seed)
        with tuned.disable_lora():
            assert generate_text(tuned, PROMPTS, 6) == generate_text(base, PROMPTS, 6)
    assert generate_text(tuned, PROMPTS, 6) != on
    randomize(tuned, seed=0)
    assert generate_text(tuned, PROMPTS, 6) == on
    generate_text(tuned, PROMPTS[:1], 70, seed=9, stop=["zzz"])
    assert decoder(tuned).traces == 2


def test_bfloat16_decodes_as_its_own_full_pass():
    shape = dataclasses.replace(SHAPE, n_layer=1)
    rough = randomize(GPT2LanguageModel(shape, dtype="mixed_bfloat16").built_now())
    prompts = random_rows([12, 5])
    for prompt, ids in zip(prompts, generate_ids(rough, prompts, 12), strict=True):
        row = tf.constant([prompt + ids])
        logits = rough({"token_ids": row, "attention_mask": tf.ones_like(row)}).numpy()[0]
        for step, token in enumerate(ids):
            scores = logits[len(prompt) + step - 1]
            # A near tie may fall otherwise, bfloat16 having three digits; a wrong cache may not.
            assert scores[token] > scores.max() - 0.02 * np.ptp(scores)


def test_a_model_is_let_go_after_generating():
    model = GPT2LanguageModel(dataclasses.replace(SHAPE, n_layer=1)).built_now()
    generate_text(model, ["x"], 2)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_prompts_may_fill_the_model_to_its_last_position(model, recomputed):
    (row,) = random_rows([250])
    assert generate_ids(model, [row], 6) == [recomputed(row, 6)]
    with pytest.raises(UserError, match=r"has 250 tokens and 7 new ones .* 257 are more .* 256"):
        generate_ids(model, [row], 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ["a", ""]}, "prompt 2 is empty"),
        ({"prompts": [[]]}, "prompt 1 is empty"),
        ({"prompts": "a text"}, "prompts is one text: pass a list"),
        ({"prompts": [[50257]]}, r"prompt 1 holds a token id outside 0\.\.50256"),
        ({"stop": ["x", ""]}, "a stop string is empty"),
        ({"stop": ""}, "a stop string is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        generate_text(model, **{"prompts": ["a"], **arguments})
    assert "\n" not in str(caught.value)


def test_streaming_refuses_bad_input_at_the_call(model):
    with pytest.raises(UserError, match="prompt 1 is empty"):
        stream_text(model, "")
    with pytest.raises(UserError, match="a stop string is empty"):
        stream_text(model, "a", stop=[""])


def test_no_prompts_give_no_texts(model):
    assert generate_text(model, []) == []

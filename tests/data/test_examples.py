from array import array

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.data.batch_arrays import PlannedBatch, padded
from gpt2_tuning.data.examples import (
    Dropped,
    Example,
    PromptTokens,
    instruction_example,
    joined_pair,
    pair_example,
    text_chunks,
    text_example,
)
from gpt2_tuning.data.tfrecords import Records

END = 99
"""Of a text and between two, and what pads."""


def test_short_text_is_kept_whole():
    example = text_example([10, 11, 12], 2, seq_len=4)
    assert (example.token_ids, example.extras, example.truncated) == (
        [10, 11, 12], {"label": 2}, False,
    )  # fmt: skip


def test_text_of_exactly_seq_len_is_not_truncated():
    example = text_example([10, 11, 12, 13], 1, seq_len=4)
    assert (example.token_ids, example.truncated) == ([10, 11, 12, 13], False)


def test_long_text_keeps_its_first_tokens():
    example = text_example([10, 11, 12, 13, 14], 0, seq_len=4)
    assert (example.token_ids, example.extras, example.truncated) == (
        [10, 11, 12, 13], {"label": 0}, True,
    )  # fmt: skip


def test_text_without_tokens_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        text_example([], 0, seq_len=4)


@pytest.mark.parametrize(
    ("premise", "hypothesis", "token_ids", "truncated"),
    [
        ([10, 11], [20, 21], [10, 11, END, 20, 21], False),
        ([10, 11, 12], [20, 21], [10, 11, 12, END, 20, 21], False),
        ([10, 11, 12, 13], [20, 21], [10, 11, 12, END, 20, 21], True),
        ([10], [20, 21, 22, 23, 24, 25], [10, END, 20, 21, 22, 23], True),
        ([10, 11, 12, 13], [20, 21, 22, 23], [10, 11, END, 20, 21, 22], True),
        ([END, 11], [END], [END, 11, END, END], False),
    ],
)
def test_pair_is_premise_separator_hypothesis_and_only_the_longer_text_is_cut(
    premise, hypothesis, token_ids, truncated
):
    example = pair_example(premise, hypothesis, 1, 6, END)
    assert (example.token_ids, example.extras) == (token_ids, {"label": 1})
    assert example.truncated == truncated


def test_shortest_pair_keeps_its_separator():
    assert pair_example([10, 11], [20, 21], 0, 3, END).token_ids == [10, END, 20]


def test_pairs_are_trimmed_as_tensorflow_text_trims_them():
    tensorflow_text = pytest.importorskip("tensorflow_text")
    rng = np.random.default_rng(0)
    pairs = [
        tuple(rng.integers(0, 50256, rng.integers(1, 15)).tolist() for _ in range(2))
        for _ in range(300)
    ]
    for seq_len in (3, 4, 9, 16):
        trimmer = tensorflow_text.ShrinkLongestTrimmer(max_seq_length=seq_len - 1)
        columns = [tf.ragged.constant(column) for column in zip(*pairs, strict=True)]
        trimmed = [column.to_list() for column in trimmer.trim(columns)]
        expected = [[*first, END, *second] for first, second in zip(*trimmed, strict=True)]
        found = [joined_pair(premise, hypothesis, seq_len, END) for premise, hypothesis in pairs]
        assert found == expected


def test_stored_pair_counts_its_separator_in_the_length_and_shows_it_in_the_mask():
    """The separator has the id of padding; only its place before `length` tells them apart."""
    pairs = [([10, 11], [20, 21, 22]), ([12], [23])]
    records = Records.of([joined_pair(*pair, 8, END) for pair in pairs], END)
    assert records.lengths.tolist() == [6, 3]
    batch = padded(records, PlannedBatch(np.array([0, 1]), 8), 2)
    assert batch["token_ids"].tolist() == [
        [10, 11, END, 20, 21, 22, END, END],
        [12, END, 23, END, END, END, END, END],
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("premise", "hypothesis", "seq_len", "message"),
    [
        ([], [20], 8, "one token on each side"),
        ([10], [], 8, "one token on each side"),
        ([10], [20], 2, "seq_len 3"),
    ],
)
def test_pair_that_cannot_be_is_refused(premise, hypothesis, seq_len, message):
    with pytest.raises(ValueError, match=message):
        pair_example(premise, hypothesis, 0, seq_len, END)


def instruction(head, context, tail, response, seq_len):
    return instruction_example(PromptTokens(head, context, tail), response, seq_len, END)


@pytest.mark.parametrize(
    ("seq_len", "token_ids", "prompt_length", "truncated"),
    [
        (99, [10, 11, 20, 21, 22, 12, 30, 31, END], 6, False),
        (9, [10, 11, 20, 21, 22, 12, 30, 31, END], 6, False),
        (8, [10, 11, 20, 21, 12, 30, 31, END], 5, True),
        (7, [10, 11, 20, 12, 30, 31, END], 4, True),
    ],
)
def test_too_long_instruction_loses_the_end_of_its_context(
    seq_len, token_ids, prompt_length, truncated
):
    example = instruction([10, 11], [20, 21, 22], [12], [30, 31], seq_len)
    assert example == Example(token_ids, {"prompt_length": prompt_length}, truncated)


def test_row_whose_prompt_and_response_do_not_fit_is_dropped_not_cut():
    for seq_len in range(1, 7):
        assert instruction([10, 11], [20, 21], [12], [30, 31], seq_len) == Dropped("too long")
    for seq_len in range(1, 5):
        assert instruction([10, 11], [], [], [30, 31], seq_len) == Dropped("too long")
    example = instruction([10, 11], [], [], [30, 31], 5)
    assert example == Example([10, 11, 30, 31, END], {"prompt_length": 2}, False)


def test_every_instruction_example_is_supervised_on_its_whole_response_and_end():
    for seq_len in range(1, 30):
        example = instruction([1] * 5, [2] * 9, [3] * 2, [4] * 3, seq_len)
        if isinstance(example, Dropped):
            assert seq_len < 5 + 1 + 2 + 3 + 1
            continue
        assert len(example.token_ids) == min(seq_len, 20)
        assert example.token_ids[example.extras["prompt_length"] :] == [4, 4, 4, END]
        assert example.truncated == (seq_len < 20)


@pytest.mark.parametrize(("head", "response"), [([], [1]), ([1], [])])
def test_instruction_without_prompt_or_response_is_refused(head, response):
    with pytest.raises(ValueError, match="needs a prompt and a response"):
        instruction(head, [], [], response, 9)


@pytest.mark.parametrize(
    ("ids", "end", "chunks"),
    [
        ([10, 11], END, [[10, 11, END]]),
        ([10, 11, 12, 13], END, [[10, 11, 12], [13, END]]),
        ([10, 11, 12], END, [[10, 11], [12, END]]),
        ([10, 11, 12, 13, 14, 15], END, [[10, 11, 12], [13, 14], [15, END]]),
        ([10], END, [[10, END]]),
        ([10, 11, 12], None, [[10, 11, 12]]),
        ([10, 11, 12, 13], None, [[10, 11], [12, 13]]),
    ],
)
def test_chunks_of_a_document(ids, end, chunks):
    examples = list(text_chunks(ids, 3, end))
    assert [example.token_ids for example in examples] == chunks
    assert all(example.extras == {"prompt_length": 1} for example in examples)
    assert not any(example.truncated for example in examples)


def test_chunks_lose_no_token_and_each_has_something_to_learn():
    for length in range(1, 40):
        ids = array("H", range(100, 100 + length))
        for seq_len in (3, 4, 7):
            chunks = [example.token_ids for example in text_chunks(ids, seq_len, END)]
            assert [token for chunk in chunks for token in chunk] == [*ids, END]
            assert all(2 <= len(chunk) <= seq_len for chunk in chunks)


@pytest.mark.parametrize(("ids", "seq_len", "end"), [([], 3, END), ([1], 3, None), ([1], 2, END)])
def test_document_with_nothing_to_learn_is_refused(ids, seq_len, end):
    with pytest.raises(ValueError, match="two tokens"):
        text_chunks(ids, seq_len, end)

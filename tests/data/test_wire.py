import random

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.wire import serialized, varints
from gpt2_tuning.families.gpt2 import END_OF_TEXT

EDGES = [0, 1, 127, 128, 16383, 16384, END_OF_TEXT]
"""Where a varint has one byte more."""


def by_tensorflow(example, seq_len):
    """The record as TensorFlow writes it."""
    message = tf.train.Example()
    ids = [*example.token_ids, *[END_OF_TEXT] * (seq_len - len(example.token_ids))]
    numbers = {"token_ids": ids, "length": [len(example.token_ids)]}
    for name, values in {**numbers, **{n: [v] for n, v in example.extras.items()}}.items():
        message.features.feature[name].int64_list.value.extend(values)
    return message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("column", ["label", "prompt_length", "zebra"])
@pytest.mark.parametrize("seq_len", [1, 40, 60, 1024])
def test_records_are_the_bytes_that_tensorflow_writes(column, seq_len):
    rng = random.Random(seq_len)
    examples = [
        Example(
            rng.choices([*EDGES, *range(0, END_OF_TEXT, 997)], k=rng.randint(1, seq_len)),
            {column: rng.choice([*EDGES, 2**31, 2**40, 2**63 - 1])},
        )
        for _ in range(50)
    ]
    assert serialized(examples, seq_len, [column], END_OF_TEXT) == [
        by_tensorflow(example, seq_len) for example in examples
    ]


def test_records_of_many_columns_are_too_whatever_their_order():
    names = [f"column_{number:02}" for number in range(20)]
    one = Example([5], {name: number for number, name in enumerate(names)})
    other = Example([5], dict(reversed(list(one.extras.items()))))
    assert serialized([one, other], 2, names, END_OF_TEXT) == [by_tensorflow(one, 2)] * 2


def test_record_is_parsed_as_padded_token_ids_with_their_length():
    record, _ = serialized(
        [Example([5, END_OF_TEXT], {"label": 1}), Example([1], {"label": 0})], 4, ["label"], 9
    )
    single = tf.io.FixedLenFeature([], tf.int64)
    features = {
        "token_ids": tf.io.FixedLenFeature([4], tf.int64),
        "length": single,
        "label": single,
    }
    found = tf.io.parse_single_example(record, features)
    assert {name: value.numpy().tolist() for name, value in found.items()} == {
        "token_ids": [5, END_OF_TEXT, 9, 9], "length": 2, "label": 1,
    }  # fmt: skip


def test_no_examples_are_no_records():
    assert serialized([], 4, ["label"], 0) == []


@pytest.mark.parametrize("example", [([], {"label": 0}), ([1] * 5, {"label": 0}), ([1], {})])
def test_example_that_does_not_fit_the_set_is_a_defect(example):
    with pytest.raises(ValueError, match="not a row of this set"):
        serialized([Example([1], {"label": 0}), Example(*example)], 4, ["label"], 0)


def test_varints_are_groups_of_seven_bits_lowest_first():
    data, ends = varints(np.array([1, 300, 0, 2**63 - 1]))
    assert data == b"\x01" + b"\xac\x02" + b"\x00" + b"\xff" * 8 + b"\x7f"
    assert ends.tolist() == [1, 3, 4, 13]

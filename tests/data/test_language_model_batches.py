"""Batches for predicting next tokens: which positions, which targets, and never across examples."""

import numpy as np
import pytest
import tensorflow as tf
from token_rows import random_records, records_of, targets_of

from gpt2_tuning.data.batch_arrays import (
    PlannedBatch,
    language_model_batch,
    target_width,
)
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.families.gpt2 import END_OF_TEXT

PAD = END_OF_TEXT


def test_arrays_of_an_unpacked_batch():
    records = records_of(([5, 6, 7, 8], 2), ([9, PAD, 4, PAD, PAD], 3), ([3, 2], 1))
    batch = language_model_batch(records, PlannedBatch(np.array([0, 1]), 6), batch_size=3)
    assert batch.inputs["token_ids"].tolist() == [
        [5, 6, 7, 8, PAD, PAD],
        [9, PAD, 4, PAD, PAD, PAD],
        [PAD] * 6,
    ]
    assert batch.inputs["attention_mask"].tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [0] * 6,
    ]
    assert batch.inputs["target_positions"].tolist() == [[1, 2], [2, 3], [0, 0]]
    assert batch.targets.tolist() == [[7, 8], [PAD, PAD], [0, 0]]
    assert batch.weights.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert (batch.real_tokens, batch.computed_tokens) == (9, 18)


def test_arrays_of_a_packed_batch():
    records = records_of(([5, 6, 7], 2), ([1, 2, 3, PAD], 2), ([8, PAD], 1), ([4, 4, PAD], 1))
    planned = PlannedBatch(np.array([1, 0, 2, 3]), 8, row_of=np.array([0, 0, 1, 1]))
    batch = language_model_batch(records, planned, batch_size=3)
    assert batch.inputs["token_ids"].tolist() == [
        [1, 2, 3, PAD, 5, 6, 7, PAD],
        [8, PAD, 4, 4, PAD, PAD, PAD, PAD],
        [PAD] * 8,
    ]
    assert batch.inputs["segment_ids"].tolist() == [
        [1, 1, 1, 1, 2, 2, 2, 0],
        [1, 1, 2, 2, 2, 0, 0, 0],
        [0] * 8,
    ]
    assert "attention_mask" not in batch.inputs
    assert batch.inputs["target_positions"].tolist() == [[1, 2, 5], [0, 2, 3], [0, 0, 0]]
    assert batch.targets.tolist() == [[3, PAD, 7], [PAD, 4, PAD], [0, 0, 0]]
    assert batch.weights.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert (batch.real_tokens, batch.computed_tokens) == (12, 24)


def test_types_are_those_that_models_take():
    planned = PlannedBatch(np.array([0]), 4, row_of=np.array([0]))
    for plan in (planned, PlannedBatch(planned.rows, 4)):
        batch = language_model_batch(records_of(([1, 2, 3], 1)), plan, 2)
        arrays = tf.nest.flatten((batch.inputs, batch.targets))
        assert {array.dtype for array in arrays} == {np.dtype(np.int32)}
        assert batch.weights.dtype == np.float32


def test_first_token_of_an_example_is_never_a_target():
    for prompt_length in (0, 1):
        records = records_of(([5, 6, 7], prompt_length))
        batch = language_model_batch(records, PlannedBatch(np.array([0]), 3), 1)
        assert targets_of(batch) == [[(0, 6), (1, 7)]]


def test_each_supervised_token_is_a_target_once_and_follows_its_position():
    records = random_records()
    targets = []
    for batch in BatchSource(records, 8, language_model_batch).epoch(0, 0):
        for row, pairs in zip(batch.inputs["token_ids"], targets_of(batch), strict=True):
            assert all(row[position + 1] == target for position, target in pairs)
            targets += [target for _, target in pairs]
    expected = [
        token
        for row in range(len(records))
        for token in records.row(row)[records.columns["prompt_length"][row] :].tolist()
    ]
    assert sorted(targets) == sorted(expected)
    assert len(expected) == records.target_counts.sum()


@pytest.mark.parametrize(
    ("count", "length", "width"),
    [(1, 1024, 128), (128, 1024, 128), (129, 1024, 256), (1023, 1024, 1024), (0, 64, 8), (3, 5, 3)],
)
def test_width_of_the_targets(count, length, width):
    assert target_width(count, length) == width


def test_widths_are_few_and_hold_all_targets():
    for length in (2, 7, 100, 1000, 1024):
        widths = {count: target_width(count, length) for count in range(length)}
        assert all(width >= count for count, width in widths.items())
        assert len(set(widths.values())) <= 8

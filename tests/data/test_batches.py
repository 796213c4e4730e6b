"""Batches: every row once, little padding, an order that seed and epoch alone decide."""

import numpy as np
import pytest

from gpt2_tuning.data.batch_arrays import PlannedBatch, classification_batch
from gpt2_tuning.data.batches import BatchSource, choose_buckets, plan_epoch, plan_in_order
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.families.gpt2 import END_OF_TEXT


def records_of(lengths):
    rows = [[10 * index + place for place in range(length)] for index, length in enumerate(lengths)]
    return Records.of(rows, END_OF_TEXT, label=np.arange(len(rows), dtype=np.int32))


def skewed_lengths(count=1000, seed=0):
    return np.clip(np.random.default_rng(seed).lognormal(2.8, 0.6, count), 2, 128).astype(np.int64)


def padded_tokens(lengths, buckets):
    return int(buckets[np.searchsorted(buckets, lengths)].sum())


def test_buckets_of_a_known_case():
    assert choose_buckets(np.array([2, 2, 3, 9]), 2).tolist() == [3, 9]
    assert choose_buckets(np.array([2, 2, 3, 9]), 12).tolist() == [2, 3, 9]
    assert choose_buckets(np.array([7]), 12).tolist() == [7]


def test_no_other_two_buckets_need_less_padding():
    lengths = skewed_lengths(200)
    best = padded_tokens(lengths, choose_buckets(lengths, 2))
    longest = lengths.max()
    others = (padded_tokens(lengths, np.array([b, longest])) for b in range(2, longest))
    assert best == min(others)


def test_an_epoch_holds_every_row_once_and_a_fixed_number_of_batches():
    lengths = skewed_lengths()
    buckets = choose_buckets(lengths)
    for epoch in range(3):
        plan = plan_epoch(lengths, buckets, 32, seed=5, epoch=epoch)
        assert len(plan) == 32  # ceil(1000 / 32)
        assert sorted(np.concatenate([b.rows for b in plan]).tolist()) == list(range(1000))
        assert all(lengths[b.rows].max() <= b.length for b in plan)


def test_order_follows_from_seed_and_epoch():
    lengths = skewed_lengths(100)
    buckets = choose_buckets(lengths)

    def order(seed, epoch):
        return [b.rows.tolist() for b in plan_epoch(lengths, buckets, 8, seed, epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert sorted(map(sorted, order(1, 2))) != sorted(map(sorted, order(1, 3)))


def test_in_order_covers_every_row_once():
    lengths = skewed_lengths(101)
    plan = plan_in_order(lengths, choose_buckets(lengths), 8)
    assert sorted(np.concatenate([b.rows for b in plan]).tolist()) == list(range(101))


def test_arrays_of_a_batch():
    records = records_of([2, 4, 1])
    batch = classification_batch(records, PlannedBatch(np.array([1, 2]), 5), batch_size=3)
    pad = END_OF_TEXT
    assert batch.inputs["token_ids"].tolist() == [
        [10, 11, 12, 13, pad],
        [20, pad, pad, pad, pad],
        [pad, pad, pad, pad, pad],
    ]
    assert batch.inputs["attention_mask"].tolist() == [
        [1, 1, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert batch.targets.tolist() == [1, 2, 0]
    assert batch.weights.tolist() == [1, 1, 0]
    assert (batch.real_tokens, batch.computed_tokens) == (5, 15)


def test_a_padding_id_inside_a_row_stays_visible():
    rows = [[7, END_OF_TEXT, 8, END_OF_TEXT]]
    records = Records.of(rows, END_OF_TEXT, label=np.zeros(1, np.int32))
    batch = classification_batch(records, PlannedBatch(np.array([0]), 6), 1)
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0]]


def test_an_epoch_can_start_at_any_step():
    source = BatchSource(records_of(skewed_lengths(60)), 8)
    whole = [b.inputs["token_ids"].tolist() for b in source.epoch(3, 1)]
    rest = [b.inputs["token_ids"].tolist() for b in source.epoch(3, 1, first_step=5)]
    assert len(whole) == source.steps
    assert rest == whole[5:]


def test_emotion_is_at_least_90_percent_real_tokens(real_data):
    from gpt2_tuning.data.row_files import read_row_file
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer

    texts = read_row_file(real_data / "emotion" / "train.jsonl", ["text"], None)["text"][:]
    rows = GPT2Tokenizer().encode_batch(list(texts))
    source = BatchSource(Records.of(rows, label=np.zeros(len(rows), np.int32)), 32)
    batches = list(source.epoch(0, 0))
    real = sum(batch.real_tokens for batch in batches)
    assert real == sum(map(len, rows))
    assert real / sum(batch.computed_tokens for batch in batches) >= 0.9


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_every_batch_has_the_same_number_of_rows(batch_size):
    source = BatchSource(records_of([3, 5, 2, 9, 4]), batch_size)
    for batch in source.epoch(0, 0):
        assert len(batch.targets) == len(batch.weights) == batch_size
    assert sum(batch.weights.sum() for batch in source.epoch(0, 0)) == 5

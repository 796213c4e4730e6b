"""Packed examples: as many an update as asked for, little padding, and two shapes at most."""

import csv
import itertools

import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.data.batch_arrays import PlannedBatch, packed_classification_batch
from gpt2_tuning.data.examples import joined_pair
from gpt2_tuning.data.packed_examples import (
    LONGEST_ROW,
    PackedExamples,
    balanced_updates,
    into_rows,
)
from gpt2_tuning.data.row_files import read_row_file
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import END_OF_TEXT

PAD = END_OF_TEXT


def records_of(lengths):
    """Examples whose every token is their number, and whose class is its last digit."""
    rows = [[number] * length for number, length in enumerate(lengths)]
    return Records.of(rows, PAD, label=np.arange(len(rows), dtype=np.int32) % 10)


def skewed_lengths(count=1000, seed=0):
    return np.clip(np.random.default_rng(seed).lognormal(2.8, 0.6, count), 2, 128).astype(np.int64)


def shape_of(batch):
    return (*batch.inputs["token_ids"].shape, batch.targets.shape[1])


def examples_of(batch):
    assert batch.rows is not None
    return batch.rows


def padding_of(source, seed=0, epoch=0):
    batches = list(source.epoch(seed, epoch))
    real = sum(batch.real_tokens for batch in batches)
    assert real == source.records.lengths.sum()
    return 1 - real / sum(batch.computed_tokens for batch in batches)


def paddings_of(source):
    """Of some epochs of some seeds, from their plans alone."""
    real = source.records.lengths.sum()
    plans = [source.plan(seed, epoch) for seed in range(2) for epoch in range(4)]
    return [1 - real / sum(batch.row_count * batch.length for batch in plan) for plan in plans]


def test_arrays_of_a_packed_batch():
    labels = np.array([1, 0, 2], np.int32)
    records = Records.of([[5, 6, 7], [8, PAD], [9]], PAD, label=labels)
    planned = PlannedBatch(np.array([0, 2, 1]), 6, np.array([0, 0, 1]), row_count=3, places=2)
    batch = packed_classification_batch(records, planned, 3)
    assert batch.inputs["token_ids"].tolist() == [
        [5, 6, 7, 9, PAD, PAD],
        [8, PAD, PAD, PAD, PAD, PAD],
        [PAD] * 6,
    ]
    assert batch.inputs["segment_ids"].tolist() == [
        [1, 1, 1, 2, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0] * 6,
    ]
    assert batch.inputs["last_positions"].tolist() == [[2, 3], [1, 0], [0, 0]]
    assert batch.targets.tolist() == [[1, 2], [0, 0], [0, 0]]
    assert batch.weights.tolist() == [[1, 1], [1, 0], [0, 0]]
    arrays = tf.nest.flatten((batch.inputs, batch.targets))
    assert {array.dtype for array in arrays} == {np.dtype("int32")}
    assert batch.weights.dtype == np.float32
    assert (batch.real_tokens, batch.computed_tokens) == (6, 18)


def test_rows_of_a_known_case():
    row_of, fullest = into_rows(np.array([[5, 4, 3, 2], [9, 1, 0, 0]]), rows=2, places=2)
    assert row_of.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]
    assert fullest.tolist() == [7, 9]


def test_a_row_holds_no_more_examples_than_it_has_places():
    """The 9 fills a row for long, but the other has two places only."""
    row_of, fullest = into_rows(np.array([[9, 1, 1, 1]]), rows=2, places=2)
    assert row_of.tolist() == [[0, 1, 1, 0]]
    assert fullest.tolist() == [10]


@pytest.mark.parametrize("count", [1, 3, 16, 17, 1000])
def test_an_epoch_holds_every_example_once_and_each_update_as_many_as_the_others(count):
    source = PackedExamples(records_of(skewed_lengths(count)), 16)
    sizes = [len(part) for part in np.array_split(range(count), -(-count // 16))]
    for epoch in range(3):
        batches = list(source.epoch(1, epoch))
        assert len(batches) == source.steps
        assert sorted((len(examples_of(batch)) for batch in batches), reverse=True) == sizes
        assert sorted(np.concatenate([examples_of(batch) for batch in batches])) == list(
            range(count)
        )
        assert [batch.weights.sum() for batch in batches] == [len(examples_of(b)) for b in batches]
    in_order = np.concatenate([examples_of(batch) for batch in source.in_order()])
    assert sorted(in_order) == list(range(count))


def test_every_example_is_whole_in_a_segment_and_read_at_its_last_token():
    records = records_of(skewed_lengths(200))
    for batch in PackedExamples(records, 16).epoch(0, 0):
        ids, segments = batch.inputs["token_ids"], batch.inputs["segment_ids"]
        for row, place in np.argwhere(batch.weights == 1):
            last = batch.inputs["last_positions"][row, place]
            example = ids[row, last]
            where = np.flatnonzero(segments[row] == segments[row, last])
            assert segments[row, last] == place + 1
            assert where.tolist() == list(range(last + 1 - records.lengths[example], last + 1))
            assert (ids[row, where] == example).all()
            assert batch.targets[row, place] == example % 10
        assert (ids[segments == 0] == PAD).all()


def test_the_examples_of_an_update_do_not_depend_on_the_number_of_devices():
    records = records_of(skewed_lengths())
    one, *others = (
        [
            sorted(examples_of(batch))
            for batch in PackedExamples(records, 16, parts=parts).epoch(3, 2)
        ]
        for parts in (1, 2, 3, 8)
    )
    assert all(other == one for other in others)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_rows_can_be_divided_over_the_devices(parts):
    source = PackedExamples(records_of(skewed_lengths(200)), 16, parts=parts)
    assert all(shape.rows % parts == 0 for shape in source.shapes)
    assert all(shape_of(batch)[0] % parts == 0 for batch in source.epoch(0, 0))


def test_order_follows_from_seed_and_epoch():
    source = PackedExamples(records_of(skewed_lengths(300)), 8)

    def order(seed, epoch):
        return [examples_of(batch).tolist() for batch in source.epoch(seed, epoch)]

    assert order(1, 2) == order(1, 2)
    first = set(map(frozenset, order(1, 2)))
    for other in (order(1, 3), order(2, 2)):
        assert len(first & set(map(frozenset, other))) <= 1


def test_an_epoch_can_start_at_any_step():
    source = PackedExamples(records_of(skewed_lengths(300)), 8)
    whole = [batch.inputs["token_ids"].tolist() for batch in source.epoch(3, 1)]
    rest = [batch.inputs["token_ids"].tolist() for batch in source.epoch(3, 1, first_step=5)]
    assert rest == whole[5:]


TAILS = {
    "a few very long": np.concatenate([np.full(500, 5), np.full(12, 900)]),
    "two kinds": np.repeat([10, 400], 200),
    "all alike": np.full(100, 64),
    "one": np.array([7]),
    "skewed": skewed_lengths(),
}


@pytest.mark.parametrize("lengths", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("batch_size", [1, 8, 16])
def test_there_are_two_shapes_at_most_in_all_epochs(lengths, batch_size):
    source = PackedExamples(records_of(lengths), batch_size)
    epochs = [list(source.epoch(seed, epoch)) for seed in range(2) for epoch in range(3)]
    shapes = {shape_of(batch) for batches in epochs for batch in batches}
    assert shapes <= set(source.shapes)
    for batches in epochs:
        assert sum(batch.real_tokens for batch in batches) == lengths.sum()


def test_an_update_that_does_not_fit_the_usual_shape_gets_the_other():
    """Of sixteen examples one in forty is long: two of them in one update are rare."""
    lengths = np.concatenate([np.full(3900, 5), np.full(100, 300)])
    source = PackedExamples(records_of(lengths), 4)
    used = {shape_of(batch) for epoch in range(2) for batch in source.epoch(0, epoch)}
    assert used == set(source.shapes)
    usual, large = source.shapes
    assert usual.rows * usual.length < large.rows * large.length


def test_updates_have_nearly_as_many_tokens_each():
    lengths = skewed_lengths(4096)
    updates = balanced_updates(lengths, 256, np.random.default_rng(0))
    by_chance = np.random.default_rng(0).permutation(4096).reshape(-1, 16)
    spread, before = (lengths[chosen].sum(axis=1).std() for chosen in (updates, by_chance))
    assert spread < before / 5


def test_the_second_shape_is_longer_by_little_and_holds_whatever_comes():
    """With examples as they come from no epoch: the longest of each class in one update."""
    source = PackedExamples(records_of(skewed_lengths(4000)), 32)
    usual, large = source.shapes
    assert large.length <= 1.25 * usual.length
    assert (large.rows, large.places) == (usual.rows, usual.places)
    longest_first = np.argsort(-source.records.lengths, kind="stable")
    (planned,) = source.planned(longest_first[:: source.steps][np.newaxis])
    assert planned.length == large.length
    batch = source.make_batch(source.records, planned, large.rows)
    assert batch.weights.sum() == 32


def test_examples_meet_others_in_each_epoch():
    """Also where each has a length of its own, so that only chance can bring others together."""
    source = PackedExamples(records_of(np.arange(1, 513)), 16)
    pairs = [
        {
            pair
            for examples in source.updates(0, epoch)
            for pair in itertools.combinations(sorted(examples), 2)
        }
        for epoch in range(2)
    ]
    by_chance = 15 / 511
    assert len(pairs[0] & pairs[1]) < 3 * by_chance * len(pairs[0])


UNEVEN = np.random.default_rng(0).integers(1, 1025, 200)


@pytest.mark.parametrize("lengths", [UNEVEN, skewed_lengths()], ids=["uneven", "skewed"])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_no_row_is_longer_than_one_and_a_half_of_the_longest_example(lengths, batch_size):
    for shape in PackedExamples(records_of(lengths), batch_size).shapes:
        assert shape.length <= LONGEST_ROW * -(-lengths.max() // 8) * 8


@pytest.mark.parametrize("parts", [1, 2])
def test_very_short_texts_share_few_rows(parts):
    source = PackedExamples(records_of(np.ones(200, np.int64)), 16, parts=parts)
    assert source.shapes[0][:2] == (parts, 16 // parts)
    assert max(paddings_of(source)) < 0.05


def test_padding_is_little_where_an_update_is_much_longer_than_an_example():
    records = records_of(skewed_lengths(4000))
    for batch_size in (32, 64, 128):
        assert padding_of(PackedExamples(records, batch_size)) < 0.1


def in_updates(records):
    """Sources with the batch sizes and the parts that a run may have."""
    for batch_size in (16, 32, 64):
        for parts in (1, 2):
            yield PackedExamples(records, batch_size, parts=parts)


def test_real_emotion_is_packed_with_at_most_10_percent_padding_in_every_epoch(real_data):
    texts = read_row_file(real_data / "emotion" / "train.jsonl", ["text"], None)["text"][:]
    rows = GPT2Tokenizer().encode_batch(list(texts))[:12_800]
    for source in in_updates(Records.of(rows, label=np.zeros(len(rows), np.int32))):
        assert max(paddings_of(source)) <= 0.1


def test_real_rte_is_packed_with_at_most_10_percent_padding_in_every_epoch(real_data):
    with (real_data / "rte" / "train.tsv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    tokenizer = GPT2Tokenizer()
    premises, hypotheses = (
        tokenizer.encode_batch([pair[name] for pair in pairs])
        for name in ("sentence1", "sentence2")
    )
    rows = [joined_pair(*pair, 384, PAD) for pair in zip(premises, hypotheses, strict=True)]
    for source in in_updates(Records.of(rows, label=np.zeros(len(rows), np.int32))):
        assert max(paddings_of(source)) <= 0.1

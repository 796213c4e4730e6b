"""Packing: every example once an epoch, apart from its neighbours, in a fixed number of steps."""

import time

import numpy as np
import pytest
import tensorflow as tf
from samples import randomize
from token_rows import random_records, records_of, targets_of

from gpt2_tuning.data.batch_arrays import language_model_batch, target_width
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.packing import PackedSource, pack
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.objective import objective_of

pytestmark = pytest.mark.usefixtures("all_bits")


def dolly_like(count, seed=0):
    """Lengths and prompt lengths spread as those of Dolly are; the tokens are the row's number."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(4.8, 0.9, count), 8, 1024).astype(np.int64)
    prompts = np.maximum(1, lengths * rng.uniform(0.1, 0.9, count)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.repeat(np.arange(count, dtype=np.int32), lengths)
    return Records(tokens, offsets, {"prompt_length": prompts}, END_OF_TEXT)


def segments(batch):
    """The tokens of every example in the batch, as (row, tokens)."""
    ids, marks = batch.inputs["token_ids"], batch.inputs["segment_ids"]
    return [
        (row, ids[row][marks[row] == mark].tolist())
        for row in range(len(ids))
        for mark in range(1, marks[row].max() + 1)
    ]


def test_packing_of_a_known_case():
    packing = pack(np.array([2, 5, 3, 4]), row_length=7, classes=4)
    examples, row_of = packing.deal(np.arange(4))
    assert examples.tolist() == [0, 1, 2, 3]
    assert row_of.tolist() == [0, 0, 1, 1]
    assert (packing.rows, packing.row_length) == (2, 7)


def test_best_fit_leaves_the_wider_gap_for_what_comes_later():
    # Rows of 7 and 6 come first. The 3 fills the row of 7, or else a 2 would have no place.
    packing = pack(np.array([2, 2, 3, 6, 7]), row_length=10, classes=4)
    examples, row_of = packing.deal(np.arange(5))
    assert packing.rows == 2
    assert sorted(examples[row_of == 0].tolist()) == [2, 4]
    assert sorted(examples[row_of == 1].tolist()) == [0, 1, 3]


def test_example_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="9 tokens does not fit a row of 8"):
        pack(np.array([3, 9]), 8)


def test_an_epoch_holds_every_example_once_whole_and_in_its_own_segment():
    records = random_records()
    source = PackedSource(records, 3, row_length=100)
    expected = sorted(records.row(row).tolist() for row in range(len(records)))
    for epoch in range(3):
        found = [tokens for batch in source.epoch(1, epoch) for _, tokens in segments(batch)]
        assert sorted(found) == expected
    assert sorted(tokens for b in source.in_order() for _, tokens in segments(b)) == expected


def test_segments_are_unbroken_and_numbered_from_one_with_padding_zero_at_the_end():
    for batch in PackedSource(random_records(), 4, row_length=100).epoch(0, 0):
        ids, marks = batch.inputs["token_ids"], batch.inputs["segment_ids"]
        for row in marks:
            real = row[row > 0]
            assert row[: len(real)].tolist() == real.tolist()
            assert set(np.diff(real).tolist()) <= {0, 1}
            assert not len(real) or real[0] == 1
        assert (ids[marks == 0] == END_OF_TEXT).all()


def test_no_target_is_in_another_example_than_its_position():
    for batch in PackedSource(random_records(), 4, row_length=100).epoch(0, 0):
        marks = batch.inputs["segment_ids"]
        ids = batch.inputs["token_ids"]
        for row, pairs in enumerate(targets_of(batch)):
            for position, target in pairs:
                assert marks[row, position] == marks[row, position + 1] > 0
                assert ids[row, position + 1] == target


def test_packed_and_unpacked_epochs_supervise_the_same_tokens():
    records = random_records()
    packed, plain = (
        sorted(target for b in source.epoch(0, 0) for pairs in targets_of(b) for _, target in pairs)
        for source in (
            PackedSource(records, 3, row_length=64),
            BatchSource(records, 3, language_model_batch),
        )
    )
    assert packed == plain


def test_steps_are_the_same_in_every_epoch_and_no_batch_is_empty():
    source = PackedSource(dolly_like(500), 8)
    for epoch in range(10):
        batches = list(source.epoch(7, epoch))
        assert len(batches) == source.steps
        assert all(batch.weights.sum() > 0 for batch in batches)
        assert {batch.inputs["token_ids"].shape for batch in batches} == {
            (8, source.packing.row_length)
        }
    assert len(list(source.in_order())) == source.steps


def together(source, seed, epoch):
    """Which examples share a row; the tokens of `dolly_like` are the examples' numbers."""
    rows: dict[tuple[int, int], list[int]] = {}
    for number, batch in enumerate(source.epoch(seed, epoch)):
        for row, tokens in segments(batch):
            rows.setdefault((number, row), []).append(tokens[0])
    return [sorted(row) for row in rows.values()]


def test_what_shares_a_row_follows_from_seed_and_epoch():
    source = PackedSource(dolly_like(300), 4)
    assert together(source, 1, 2) == together(PackedSource(dolly_like(300), 4), 1, 2)
    for other in (together(source, 1, 3), together(source, 2, 2)):
        ours = {tuple(row) for row in together(source, 1, 2)}
        # Only examples alone in their row, or of classes of one, may meet again.
        assert len(ours & {tuple(row) for row in other}) < 0.3 * len(ours)
        assert together(source, 1, 2) != other


def test_an_epoch_can_start_at_any_step():
    source = PackedSource(dolly_like(300), 4)
    whole = [batch.inputs["token_ids"].tolist() for batch in source.epoch(3, 1)]
    rest = [batch.inputs["token_ids"].tolist() for batch in source.epoch(3, 1, first_step=5)]
    assert rest == whole[5:]


def test_15000_examples_are_packed_quickly_with_little_padding():
    started = time.monotonic()
    records = dolly_like(15_000)
    source = PackedSource(records, 8)
    plan = source.plan(0, 0)
    # About a second when nothing else runs.
    assert time.monotonic() - started < 10
    assert sorted(np.concatenate([batch.rows for batch in plan]).tolist()) == list(range(15_000))
    computed = source.steps * 8 * source.packing.row_length
    assert 1 - records.lengths.sum() / computed < 0.02


def test_rows_of_a_batch_have_about_as_many_targets():
    source = PackedSource(dolly_like(5000), 8)
    batches = list(source.epoch(0, 0))
    share = sum(b.weights.sum() for b in batches) / sum(b.weights.size for b in batches)
    assert share > 0.75
    assert len({batch.targets.shape for batch in batches}) <= 8


@pytest.mark.parametrize("widths", [1, 2, 8])
def test_targets_have_no_more_widths_than_asked_for_in_all_epochs(widths):
    records = dolly_like(800)
    source = PackedSource(records, 4, target_widths=widths)
    batches = [batch for epoch in range(4) for batch in source.epoch(epoch, epoch)]
    batches += source.in_order()
    assert {batch.targets.shape[1] for batch in batches} <= set(source.widths.tolist())
    assert len(source.widths) <= widths
    supervised = records.target_counts.sum()
    assert sum(batch.weights.sum() for batch in batches) == 5 * supervised


def test_eight_widths_hold_fewer_places_than_eighths_of_a_row():
    source = PackedSource(dolly_like(5000), 8)
    batches = list(source.epoch(1, 1))
    most = [int(batch.weights.sum(axis=1).max()) for batch in batches]
    eighths = sum(target_width(count, source.packing.row_length) for count in most)
    assert sum(batch.targets.shape[1] for batch in batches) <= eighths


@pytest.mark.parametrize("count", [30, 130, 300])
@pytest.mark.parametrize("batch_size", [5, 8, 32])
def test_a_last_batch_is_not_mostly_empty(count, batch_size):
    source = PackedSource(dolly_like(count), batch_size)
    full = pack(source.records.lengths, 1024).rows
    assert source.steps == -(-full // batch_size)
    for epoch in range(2):
        plan = source.plan(0, epoch)
        assert {batch.row_count for batch in plan} == {source.most}
        filled = [len(np.unique(np.asarray(batch.row_of))) for batch in plan]
        assert min(filled) >= source.most - 1
        assert sum(filled) == source.rows
        computed = sum(source.most * batch.length for batch in plan)
        assert computed <= 1024 * (full + source.steps)


def test_rows_are_shorter_where_their_number_would_not_fill_the_batches():
    """110 examples of 10 tokens fill 11 rows of 100 or, in as many batches, 16 of 70."""
    source = PackedSource(records_of(*[([1] * 10, 1)] * 110), 8, row_length=100)
    assert (source.rows, source.packing.row_length, source.steps) == (16, 70, 2)
    assert source.padding_share() == pytest.approx(1 - 110 / 112)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_very_small_sets_are_packed_too(count):
    source = PackedSource(dolly_like(count), 4)
    batches = list(source.epoch(0, 0))
    assert sum(len(segments(batch)) for batch in batches) == count
    assert source.packing.row_length <= 1024


def test_packed_loss_and_gradients_equal_unpacked(text_config):
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(0, 50257, n).tolist(), int(rng.integers(1, n))) for n in (9, 4, 17, 6, 12)
    ]
    records = records_of(*rows)
    model = GPT2LanguageModel(text_config)
    model.build()
    randomize(model)
    found = []
    for source in (
        PackedSource(records, 2, row_length=32),
        BatchSource(records, 5, language_model_batch),
    ):
        (batch,) = source.epoch(0, 0)
        with tf.GradientTape() as tape:
            loss, _ = objective_of(model).sums(
                batch.inputs, batch.targets, batch.weights, training=True
            )
            loss /= batch.weights.sum()
        gradients = tape.gradient(loss, model.trainable_variables)
        found.append((float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]))
    (packed, packed_gradients), (plain, plain_gradients) = found
    assert packed == pytest.approx(plain, rel=1e-5)
    for ours, theirs in zip(packed_gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_real_alpaca_is_packed_with_little_padding(real_data):
    from gpt2_tuning.data.prompts import TEMPLATES, prompt_tokens
    from gpt2_tuning.data.row_files import read_row_file
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer

    columns = ["instruction", "input", "output"]
    rows = read_row_file(real_data / "alpaca" / "instruction_data.json", columns, None)
    tokenizer = GPT2Tokenizer()
    prompts = list(map(TEMPLATES["alpaca"].render, rows["instruction"], rows["input"]))
    pieces = prompt_tokens(prompts, tokenizer)
    responses = tokenizer.encode_batch(rows["output"][:])
    ids = [
        [*p.head, *p.context, *p.tail, *r, END_OF_TEXT]
        for p, r in zip(pieces, responses, strict=True)
    ]
    prompt_length = np.array([len(i) - len(r) - 1 for i, r in zip(ids, responses, strict=True)])
    records = Records.of(ids, prompt_length=prompt_length.astype(np.int32))
    for source in (PackedSource(records, size) for size in (2, 8, 16, 32, 64)):
        batches = list(source.epoch(0, 0))
        real = sum(batch.real_tokens for batch in batches)
        assert real == sum(map(len, ids))
        assert real / sum(batch.computed_tokens for batch in batches) > 0.9

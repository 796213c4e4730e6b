"""What is said before training: what there is to learn from, and flags that would do better."""

import dataclasses

import numpy as np
import pytest
from tuner_runs import CONFIG, rows

from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.options.training import LanguageModelOptions, TrainOptions
from gpt2_tuning.training.strategy import make_strategy
from gpt2_tuning.training.summary import FEW_UPDATES, summary, ways_to_more

OPTIONS = TrainOptions(epochs=3, batch_size=4, precision="float32")


@pytest.fixture(scope="module")
def model():
    model = GPT2Classifier(CONFIG, 3, lora={"rank": 2}).built_now()
    model.freeze_all_but_lora()
    return model


def lines(model, options, source):
    updates = options.epochs * source.steps
    return summary(model, options, source, updates, make_strategy("one"))


def test_the_line_has_rows_updates_parameters_precision_and_devices(model):
    first, *_ = lines(model, OPTIONS, BatchSource(rows(30, 0), 4))
    trained = 2 * (16 + 48) + 2 * (16 + 16) + 3 * 16  # A and B of both attention products, the head
    frozen = CONFIG.vocab_size * 16 + 16 * 16 + 12 * 16**2 + 13 * 16 + 2 * 16
    assert first == (
        f"30 examples: 8 updates an epoch, 24 in all; {trained:,} parameters trained, {frozen:,} "
        "frozen; float32 on 1 CPU device"
    )


def test_lora_on_a_random_base_is_said_to_leave_it_as_it_is(model):
    said = "LoRA leaves the random base as it is"
    for rank, pretrained, told in ((8, "none", True), (0, "none", False), (8, None, False)):
        options = dataclasses.replace(OPTIONS, lora_rank=rank, pretrained=pretrained)
        text = "\n".join(lines(model, options, BatchSource(rows(30, 0), 4)))
        assert (said in text) == told


def packed(count, batch_size=8):
    """Examples of which ten fill a row."""
    columns = {"prompt_length": np.zeros(count, np.int32)}
    records = Records.of([[1] * 10] * count, **columns)
    return PackedSource(records, batch_size, row_length=100)


def test_packed_rows_are_counted_apart_from_their_examples(model):
    options = LanguageModelOptions(precision="float32")
    first, warning = lines(model, options, packed(720))
    assert first.startswith("720 examples in 72 packed rows of 100 tokens: 9 updates an epoch, 27 ")
    assert warning == (
        "warning: only 27 updates to learn from: --epochs 12 or --batch_size 2 or --layout "
        "buckets would make 100 or more"
    )


def test_a_run_that_ends_by_updates_is_given_more_of_them(model):
    options = dataclasses.replace(OPTIONS, max_updates=1)
    warning = summary(model, options, BatchSource(rows(30, 0), 4), 1, make_strategy("one"))[1]
    assert warning == (
        "warning: only 1 update to learn from: --max_updates 100 would make 100 or more"
    )


@pytest.mark.parametrize("count", [1, 7, 100, 720, 790])
@pytest.mark.parametrize("source", [packed, lambda count: BatchSource(rows(count, 0), 8)])
def test_what_a_warning_advises_makes_enough_updates(source, count):
    options = LanguageModelOptions()
    train = source(count)
    updates = {
        "--epochs": lambda value: int(value) * train.steps,
        "--batch_size": lambda value: (
            options.epochs * dataclasses.replace(train, batch_size=int(value)).steps
        ),
        "--layout": lambda _: options.epochs * BatchSource(train.records, 8).steps,
    }
    ways = [way.split() for way in ways_to_more(options, train)]
    assert ways
    assert all(updates[flag](value) >= FEW_UPDATES for flag, value in ways)


def test_enough_updates_and_resumed_runs_are_not_warned_of(model):
    source = BatchSource(rows(136, 0), 4)
    assert len(lines(model, OPTIONS, source)) == 1
    assert len(lines(model, dataclasses.replace(OPTIONS, epochs=2), source)) == 2
    assert len(lines(model, dataclasses.replace(OPTIONS, epochs=2, resume=True), source)) == 1


def test_parts_without_rows_and_checkpoints_that_never_come_are_said(model):
    source = BatchSource(rows(136, 0), 4)
    options = dataclasses.replace(OPTIONS, gradient_accumulation=5, checkpoint_steps=1000)
    _, parts, checkpoints = lines(model, options, source)
    assert parts.startswith("note: a batch of 4 does not give each of 5 parts")
    assert checkpoints.startswith("note: --checkpoint_steps 1000 has no effect")


def test_parts_that_make_much_padding_are_said_and_what_does_not(model):
    """Each of 8 examples in a row of its own, as long as the longest of all."""
    options = dataclasses.replace(
        OPTIONS, epochs=20, batch_size=8, gradient_accumulation=8, layout="packed"
    )
    lengths = np.tile([64, 8, 8, 8, 8, 8, 8, 8], 40)
    records = Records.of(
        [[1] * length for length in lengths], label=np.zeros(len(lengths), np.int32)
    )
    source = PackedExamples(records, 8, parts=8)
    _, note = lines(model, options, source)
    assert note == (
        "note: 77 % of the tokens computed in packed rows will be padding, as each of 8 parts "
        "(devices x --gradient_accumulation) needs rows of its own; --layout buckets would make "
        "it 0 %"
    )
    fewer = dataclasses.replace(options, gradient_accumulation=1)
    assert len(lines(model, fewer, PackedExamples(records, 8))) == 1
    assert len(lines(model, dataclasses.replace(options, resume=True), source)) == 1
    apart = dataclasses.replace(options, layout="buckets")
    assert len(lines(model, apart, BatchSource(records, 8))) == 1

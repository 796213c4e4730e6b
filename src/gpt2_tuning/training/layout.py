"""How a run lays the rows of its batches out, and the batches of each task in that layout.

`buckets` pads an example a row to one of a few lengths; `packed` brings several into rows of a
static shape, for devices on which every shape takes its time to compile.
"""

import dataclasses
from typing import TypeVar

import tensorflow as tf

from gpt2_tuning.data.batch_arrays import TARGET_SIZES, language_model_batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.options.training import LanguageModelOptions, TrainOptions
from gpt2_tuning.training.run_directory import begun_with

FEW_WIDTHS = 2
"""Of the targets of packed rows, where a compiler takes a minute for each."""

OptionsT = TypeVar("OptionsT", bound=TrainOptions)


def with_layout(options: OptionsT) -> OptionsT:
    """The flags with a `--layout auto` replaced by what it means for this run.

    A resumed run has the layout that it was begun with, on whatever device. Else `packed` is for
    GPUs, and for language models everywhere. TensorFlow need not have started its devices.
    """
    if options.layout != "auto":
        return options
    layout = begun_with(options, "layout")
    if layout not in ("buckets", "packed"):
        on_gpu = options.logical_devices is None and tf.config.get_visible_devices("GPU")
        layout = "packed" if on_gpu and not options.resume else options.CPU_LAYOUT
    return dataclasses.replace(options, layout=layout)


def classifier_batches(records: Records, options: TrainOptions, parts: int) -> BatchSource:
    """The batches of a split; `options.layout` is no longer `auto`.

    `parts` is how many equal parts a batch is computed in, over all devices.
    """
    if options.layout == "buckets":
        return BatchSource(records, options.batch_size)
    return PackedExamples(records, options.batch_size, parts=parts)


def language_model_batches(
    records: Records, metadata: Metadata, options: LanguageModelOptions
) -> BatchSource:
    """The batches of a split; `options.layout` is no longer `auto`."""
    if options.layout == "buckets":
        return BatchSource(records, options.batch_size, language_model_batch)
    return packed_rows(records, options.batch_size, metadata.seq_len)


def evaluation_batches(records: Records, batch_size: int, seq_len: int) -> BatchSource:
    """The batches of a split on which a language model is only evaluated."""
    if device_choices().whole:
        return packed_rows(records, batch_size, seq_len)
    return BatchSource(records, batch_size, language_model_batch)


def packed_rows(records: Records, batch_size: int, seq_len: int) -> PackedSource:
    """Batches of `batch_size` packed rows, in as few shapes as the devices want."""
    widths = FEW_WIDTHS if device_choices().whole else TARGET_SIZES
    return PackedSource(records, batch_size, row_length=seq_len, target_widths=widths)

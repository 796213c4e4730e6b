"""What is said as training begins: what a run learns from, in how many updates, and with what."""

import dataclasses

import tensorflow as tf

from gpt2_tuning.data.batch_arrays import classification_batch, language_model_batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.models.parameters import count_parameters
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.strategy import uses_gpu

FEW_UPDATES = 100
"""With fewer, the learning rate has hardly risen before it falls, and little is learnt."""

MUCH_PADDING = 0.25
"""A share of padding that is worth a note."""


def summary(
    model: TunableModel,
    options: TrainOptions,
    train: BatchSource,
    updates: int,
    strategy: tf.distribute.Strategy,
) -> list[str]:
    """A line on the run, and notes on what of its flags will disappoint.

    Args:
        model: built, with what is to be tuned trainable.
        options: the flags, with a layout and a precision.
        train: the batches to train on.
        updates: of the whole run.
        strategy: the devices.
    """
    counts = count_parameters(model).values()
    trained, frozen = (sum(column) for column in zip(*counts, strict=True))
    replicas = strategy.num_replicas_in_sync
    lines = [
        f"{train.content}: {counted(train.steps, 'update')} an epoch, {updates:,} in all; "
        f"{trained:,} parameters trained, {frozen:,} frozen; "
        f"{options.precision} on {counted(replicas, 'GPU' if uses_gpu() else 'CPU device')}"
    ]
    if options.pretrained == "none" and options.lora_rank and not options.resume:
        lines.append(
            "note: LoRA leaves the random base as it is, so little can be learnt: --lora_rank 0 "
            "tunes all of it"
        )
    if updates < FEW_UPDATES and not options.resume:
        lines.append(
            f"warning: only {counted(updates, 'update')} to learn from: "
            f"{' or '.join(ways_to_more(options, train))} would make {FEW_UPDATES} or more"
        )
    parts = replicas * options.gradient_accumulation
    if parts > options.batch_size:
        lines.append(
            f"note: a batch of {options.batch_size} does not give each of {parts} parts (devices x "
            "--gradient_accumulation) something to compute; a larger --batch_size would"
        )
    lines += note_of_padding(options, train, parts)
    default = {field.name: field.default for field in dataclasses.fields(options)}
    if default["checkpoint_steps"] != options.checkpoint_steps >= updates:
        lines.append(
            f"note: --checkpoint_steps {options.checkpoint_steps} has no effect in so few updates; "
            "there is a checkpoint at the end of each epoch"
        )
    return lines


def note_of_padding(options: TrainOptions, train: BatchSource, parts: int) -> list[str]:
    """A note where packed rows have much padding, as where each of many parts needs its own.

    It names the other layout where that has less; a resumed run keeps its own, and is told nothing.
    """
    if options.layout != "packed" or options.resume:
        return []
    share = train.padding_share(parts)
    if share <= MUCH_PADDING:
        return []
    line = f"note: {100 * share:.0f} % of the tokens computed in packed rows will be padding"
    if parts > 1:
        line += (
            f", as each of {parts} parts (devices x --gradient_accumulation) needs rows of its own"
        )
    make_batch = language_model_batch if isinstance(train, PackedSource) else classification_batch
    apart = BatchSource(train.records, train.batch_size, make_batch).padding_share(parts)
    if apart < share:
        line += f"; --layout buckets would make it {100 * apart:.0f} %"
    return [line]


def ways_to_more(options: TrainOptions, train: BatchSource) -> list[str]:
    """The flags, each alone, with which the run would have FEW_UPDATES updates or more."""
    if options.max_updates is not None:
        return [f"--max_updates {FEW_UPDATES}"]
    ways = [f"--epochs {-(-FEW_UPDATES // train.steps)}"]
    steps = -(-FEW_UPDATES // options.epochs)
    smaller = (train.rows - 1) // (steps - 1) if steps > 1 else 0
    if smaller >= 1:
        ways.append(f"--batch_size {2 ** (smaller.bit_length() - 1)}")
    apart = -(-len(train.records) // options.batch_size) * options.epochs
    if isinstance(train, PackedSource) and apart >= FEW_UPDATES:
        ways.append("--layout buckets")
    return ways


def counted(number: int, what: str) -> str:
    """A number of things: `1 update`, `1,200 updates`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

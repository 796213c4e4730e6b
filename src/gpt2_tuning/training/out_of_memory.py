"""What is said where a device's memory does not suffice: the flags that fit, as `plan` has them."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from gpt2_tuning import compiled_cache, nvidia
from gpt2_tuning.errors import OutOfMemory, is_out_of_memory
from gpt2_tuning.fitting import Update, Way, usable
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.gpu_checks import names_of_gpus
from gpt2_tuning.training.precision import half_precision
from gpt2_tuning.training.steps import StepFunctions
from gpt2_tuning.training.strategy import uses_gpu

GB = 1e9
MARGIN = 0.9
"""What is advised takes at most this share of what did not fit, whatever there seems to be."""


@contextlib.contextmanager
def reported(steps: StepFunctions, options: TrainOptions, checkpoints: Path) -> Iterator[None]:
    """Turns TensorFlow's error inside the block into a line.

    Args:
        steps: what is computed in the block.
        options: the flags.
        checkpoints: where the run's are; one to go on from leaves fewer flags to change.

    Raises:
        OutOfMemory: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # Of the cache it is the disk that is full.
        if compiled_cache.is_of_cache(error) or not is_out_of_memory(error):
            raise
        begun = any(checkpoints.glob("step-*"))
        raise OutOfMemory(advice(steps, options, begun)) from error


def advice(steps: StepFunctions, options: TrainOptions, begun: bool) -> str:
    """What did not fit, and with which flags it would."""
    rows, length = steps.largest
    update = Update(
        steps.model.config,
        steps.model.lora,
        rows,
        length,
        steps.strategy.num_replicas_in_sync,
        uses_gpu(),
        half_precision(options),
    )
    asked = Way(
        options.precision,
        options.gradient_accumulation,
        options.rematerialize,
        options.optimizer,
    )
    needed, limit = update.memory(asked), memory_of_a_device(options.strategy == "one")
    found = ((way, update.memory(way)) for way in update.ways(asked))
    fits = (
        (way, memory.total)
        for way, memory in found
        if memory.total <= limit and memory.tensors <= MARGIN * needed.tensors
    )
    if begun:  # a resumed run may not change the others
        fits = (found for found in fits if found[0] == asked._replace(rematerialize=True))
    way, total = next(fits, (None, 0.0))
    said = (
        f"out of memory in a batch of {rows} x {length} tokens in "
        f"{options.precision}, which takes about {needed.total / GB:.2f} GB a device"
    )
    if way is None:
        return (
            f"{said}, and nothing fits that {'a resumed run' if begun else 'a flag'} may change: "
            "choose a smaller --model_size, or prepare the data with a smaller --seq_len"
        )
    return (
        f"{said}: {'--resume' if begun else 'start again'} with {way.flags(asked)}, which takes "
        f"about {total / GB:.2f} GB (both are estimates)"
    )


def memory_of_a_device(one: bool) -> float:
    """Bytes that the smallest device has, about; infinite where a GPU's are not known.

    Args:
        one: only the first GPU is used.
    """
    if not uses_gpu():
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    driver, names = nvidia.driver(), names_of_gpus(one)
    used = [card for card in driver.cards if card.name in names] if driver else []
    known = [usable(card.total, card.capability) for card in used if card.total is not None]
    return min(known, default=math.inf)

"""The batches of the next updates as tensors, on a GPU made while the one before is computed."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from gpt2_tuning.data.batch_arrays import Batch
from gpt2_tuning.data.batches import BatchSource
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.training.steps import StepFunctions, Tensors

ItemT = TypeVar("ItemT")
NONE_LEFT: Final = object()


class Fed(NamedTuple):
    """A batch on its way into a step."""

    update: int
    """Its number in the run, from 1 on."""
    batch: Batch
    tensors: Tensors


def feed(
    steps: StepFunctions, source: BatchSource, seed: int, done: int, until: int
) -> Iterator[Fed]:
    """Yields the batches of the updates from `done` + 1 to `until`.

    Args:
        steps: those that will be given them.
        source: of the batches.
        seed: of their order.
        done: updates that came before.
        until: the last update.
    """
    fed = (
        Fed(update, batch, steps.tensors(batch))
        for update, batch in batches(source, seed, done, until)
    )
    return one_ahead(fed) if device_choices().whole else fed


def batches(source: BatchSource, seed: int, done: int, until: int) -> Iterator[tuple[int, Batch]]:
    """Yields the batches of some updates, numbered; arguments as `feed`'s."""
    while done < until:
        epoch, step = divmod(done, source.steps)
        for batch in itertools.islice(source.epoch(seed, epoch, step), until - done):
            done += 1
            yield done, batch


def one_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """Yields the items in their order; the next one is made by a thread while one is used.

    What making an item raises comes in its place.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, NONE_LEFT)
        while (item := coming.result()) is not NONE_LEFT:
            coming = thread.submit(next, items, NONE_LEFT)
            yield item  # type: ignore[misc]

"""Whether the GPUs that the system has can be used: found out early, and said in a line."""

import os
import sys
from collections import Counter
from collections.abc import Sequence

import tensorflow as tf

from gpt2_tuning import nvidia
from gpt2_tuning.errors import UserError
from gpt2_tuning.nvidia import Card, Driver

OLDEST = (6, 0)
"""The compute capability of the oldest GPUs that TensorFlow's packages hold code for."""
CUDA = (12, 0)
"""What the driver must serve for them."""
LEAST_FREE = 2**30
"""Bytes that TensorFlow and its libraries take before a model's first weight."""
IDENTITY = len("GPU-8932f937")
"""Characters of a GPU's UUID that tell it from others."""
ON_THE_CPU = f"or go on with the CPU: {nvidia.NO_GPU} before the command"


def check_gpus(one: bool = False) -> None:
    """Says what keeps TensorFlow from the GPUs that the system has.

    Where TensorFlow has left them out itself, a note says why and the process goes on without
    them. What the driver does not say is not checked. Once TensorFlow has started its devices there
    is nothing to find out: the memory is its own.

    Args:
        one: only the first is to be used.

    Raises:
        UserError: one that TensorFlow would use has no memory left.
    """
    driver = nvidia.driver()
    if driver is None or not tf.test.is_built_with_cuda() or devices_started():
        return
    names = names_of_gpus()
    if not names:
        why = left_out(driver)
        print(f"note: {why}. Going on with the CPU; {nvidia.NO_GPU} says so", file=sys.stderr)
        return
    first, full = (full_cards(driver.cards, names, used) for used in (names[:1], names))
    if refused := first if one else full:
        raise UserError(no_memory(refused[0], driver.cards, one_serves=not one and not first))
    old = [card for card in driver.cards if is_old(card)]
    for card in old if nvidia.VISIBLE not in os.environ else []:  # else it may be hidden already
        note_without(too_old(card), driver.cards)
    for card in full:
        note_without(little_memory(card), driver.cards)


def names_of_gpus(one: bool = False) -> list[str]:
    """What TensorFlow calls the GPUs that it would use, in its order; this does not start them.

    Args:
        one: only the first.
    """
    devices = tf.config.get_visible_devices("GPU")
    details = map(tf.config.experimental.get_device_details, devices[:1] if one else devices)
    return [found.get("device_name", "") for found in details]


def full_cards(cards: Sequence[Card], names: Sequence[str], used: Sequence[str]) -> list[Card]:
    """The GPUs without memory among those used, where one of them is so for sure.

    Args:
        cards: the driver's.
        names: of all GPUs that TensorFlow sees.
        used: of those that are to be used, the first of `names`.
    """
    found = []
    for name, count in Counter(used).items():
        same = [card for card in cards if card.name == name]
        if len(same) == names.count(name):  # then they are these, and in this order
            same = same[:count]
        full = [card for card in same if is_full(card)]
        if len(same) - len(full) < count:
            found += full
    return found


def devices_started() -> bool:
    """Whether TensorFlow has: then it lets nobody change how many threads it has."""
    count = tf.config.threading.get_inter_op_parallelism_threads()
    try:
        tf.config.threading.set_inter_op_parallelism_threads(count + 1)
    except RuntimeError:
        return True
    tf.config.threading.set_inter_op_parallelism_threads(count)
    return False


def started_gpus() -> list[tf.config.LogicalDevice]:
    """The GPUs, which TensorFlow starts.

    Raises:
        UserError: it cannot.
    """
    try:
        return tf.config.list_logical_devices("GPU")
    except (RuntimeError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"TensorFlow cannot start the GPU ({reason}): free it, {ON_THE_CPU}"
        ) from error


def is_old(card: Card) -> bool:
    """Whether TensorFlow's packages hold no code for a GPU."""
    return card.capability is not None and card.capability < OLDEST


def is_full(card: Card) -> bool:
    """Whether there is too little memory left for TensorFlow to start."""
    return card.free is not None and card.free < LEAST_FREE


def too_old(card: Card) -> str:
    """What is said of such a GPU."""
    has, needed = version(card.capability or (0, 0)), version(OLDEST)
    return f"{card.name} is too old: its compute capability is {has}, TensorFlow needs {needed}"


def little_memory(card: Card) -> str:
    """What is said of a GPU that others use."""
    free, total = (card.free or 0) / 1e9, (card.total or 0) / 1e9
    return f"{card.name} has {free:.1f} of {total:.1f} GB free"


def no_memory(card: Card, cards: Sequence[Card], one_serves: bool) -> str:
    """Why a GPU is refused, and what to do.

    Args:
        card: the GPU.
        cards: all of them.
        one_serves: whether TensorFlow's first has memory.
    """
    without = f"leave it out ({choosing(cards)} before the command), " if serving(cards) else ""
    one = "use one GPU (--strategy one), " if one_serves else ""
    return (
        f"{little_memory(card)}: end what uses it (nvidia-smi lists that), "
        f"{without}{one}{ON_THE_CPU}"
    )


def note_without(why: str, cards: Sequence[Card]) -> None:
    """Says that a GPU is left alone, and how to say so to TensorFlow."""
    print(f"note: {why}. Going on without it; {choosing(cards)} says so", file=sys.stderr)


def serving(cards: Sequence[Card]) -> list[Card]:
    """The GPUs of which nothing is known against their use."""
    return [card for card in cards if not is_old(card) and not is_full(card)]


def choosing(cards: Sequence[Card]) -> str:
    """In the environment of a command, this leaves the GPUs that serve.

    Not by number: it is not always known how CUDA numbers them.
    """
    identities = [card.uuid[:IDENTITY] for card in serving(cards)]
    if identities and all(identities):
        return f"{nvidia.VISIBLE}={','.join(identities)}"
    return f"{nvidia.VISIBLE}=N, the number of another,"


def left_out(driver: Driver) -> str:
    """Why TensorFlow sees none of the driver's GPUs, and what to do."""
    names = ", ".join(card.name for card in driver.cards)
    if driver.cuda is not None and driver.cuda < CUDA:
        return (
            f"the driver of {names} serves CUDA {version(driver.cuda)}, TensorFlow needs "
            f"{version(CUDA)}: update it to 525 or newer"
        )
    old = [too_old(card) for card in driver.cards if is_old(card)]
    if len(old) == len(driver.cards):
        return old[0]
    return "; ".join(
        [
            f"TensorFlow cannot use {names}, most often for want of CUDA's libraries: "
            "pip install 'tensorflow[and-cuda]'",
            *old,
        ]
    )


def version(numbers: tuple[int, int]) -> str:
    """Such as 12.4."""
    return ".".join(map(str, numbers))

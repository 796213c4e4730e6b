"""Whether the GPUs that the system has can be used: found out early, and said in a line."""

import sys

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
ON_THE_CPU = f"or go on with the CPU: {nvidia.NO_GPU} before the command"


def check_gpus(one: bool = False) -> None:
    """Says what keeps TensorFlow from the GPUs that the system has.

    Where TensorFlow has left them out itself, a note says why and the process goes on with the CPU.
    Once TensorFlow has started its devices there is nothing to find out: the memory is its own. Of
    several GPUs TensorFlow itself leaves out those that are too old.

    Args:
        one: only the first is to be used.

    Raises:
        UserError: all are too old, or one that TensorFlow would use has no memory left.
    """
    driver = nvidia.driver()
    if driver is None or not tf.test.is_built_with_cuda() or devices_started():
        return
    if not tf.config.get_visible_devices("GPU"):
        why = left_out(driver)
        print(f"note: {why}. Going on with the CPU; {nvidia.NO_GPU} says so", file=sys.stderr)
        return
    if not driver.certain or (one and not driver.ordered):
        return  # what would be said may be of a GPU that is not used
    young = [card for card in driver.cards if not is_old(card)]
    if not young:
        raise UserError(f"{too_old(driver.cards[0])}. Use another GPU, {ON_THE_CPU}")
    for card in young[:1] if one else young:
        check_memory(card, alone=one or len(young) == 1)


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


def check_memory(card: Card, alone: bool) -> None:
    """Raises UserError where a GPU has no memory left; `alone` no other is to be used."""
    if card.free is not None and card.total is not None and card.free < LEAST_FREE:
        others = "" if alone else f"leave it out ({nvidia.VISIBLE}=N lets a command have GPU N), "
        raise UserError(
            f"{card.name} has {card.free / 1e9:.1f} of {card.total / 1e9:.1f} GB free: end what "
            f"uses it (nvidia-smi lists that), {others}{ON_THE_CPU}"
        )


def is_old(card: Card) -> bool:
    """Whether TensorFlow's packages hold no code for a GPU."""
    return card.capability is not None and card.capability < OLDEST


def too_old(card: Card) -> str:
    """What is said of such a GPU."""
    assert card.capability is not None
    has, needed = version(card.capability), version(OLDEST)
    return f"{card.name} is too old: its compute capability is {has}, TensorFlow needs {needed}"


def left_out(driver: Driver) -> str:
    """Why TensorFlow sees none of the driver's GPUs, and what to do."""
    names = ", ".join(card.name for card in driver.cards)
    if driver.cuda is not None and driver.cuda < CUDA:
        return (
            f"the driver of {names} serves CUDA {version(driver.cuda)}, TensorFlow needs "
            f"{version(CUDA)}: update it to 525 or newer"
        )
    if all(map(is_old, driver.cards)):
        return too_old(driver.cards[0])
    return (
        f"TensorFlow cannot use {names}, most often for want of CUDA's libraries: "
        "pip install 'tensorflow[and-cuda]'"
    )


def version(numbers: tuple[int, int]) -> str:
    """Such as 12.4."""
    return ".".join(map(str, numbers))

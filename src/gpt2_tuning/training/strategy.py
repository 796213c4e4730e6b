"""Which devices take part."""

import functools

import tensorflow as tf

from gpt2_tuning.errors import UserError


def make_strategy(name: str) -> tf.distribute.Strategy:
    """A strategy by its flag.

    Args:
        name: `one`, `mirrored` (every visible GPU, or every logical CPU device where there is no
            GPU), or `auto`: mirrored where a GPU is visible, else one.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "one" or (name == "auto" and not gpus):
        return tf.distribute.get_strategy()
    if name in ("auto", "mirrored"):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return mirrored(tuple(device.name for device in devices))
    raise UserError(f"unknown strategy {name!r}: choose auto, one or mirrored")


@functools.cache
def mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The one MirroredStrategy over these devices.

    A second one would number its collective operations from the start again, and TensorFlow takes
    those for the first one's.
    """
    return tf.distribute.MirroredStrategy(devices)


def uses_gpu() -> bool:
    """Whether a GPU is visible; compiling whole steps pays there and costs on a CPU."""
    return bool(tf.config.list_logical_devices("GPU"))

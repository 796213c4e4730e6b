"""What `--precision auto` comes to, and what is said of a run's precision as it starts."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

from gpt2_tuning.memory import BYTES
from gpt2_tuning.options.training import Precision, TrainOptions
from gpt2_tuning.training.run_directory import begun_with

OptionsT = TypeVar("OptionsT", bound=TrainOptions)

AMPERE = (8, 0)
"""The compute capability from which on a GPU has units for bfloat16 and TensorFloat-32."""
UNKNOWN = (0, 0)
TENSOR_FLOAT_32 = (
    "; matrix products round their factors to TensorFloat-32, which has 10 of float32's 23 bits "
    "(--no_tensor_float_32 keeps all)"
)
NOT_ROUNDED = (
    "; --no_tensor_float_32 has no effect: TensorFloat-32 is for float32 on GPUs such as A100 or L4"
)


class Gpu(NamedTuple):
    """A GPU as TensorFlow describes it."""

    name: str
    capability: tuple[int, int]
    """NVIDIA's compute capability, UNKNOWN where it has none."""


def gpus_of(options: TrainOptions) -> list[Gpu]:
    """The GPUs that a run would compute on; asking does not start TensorFlow's devices."""
    if options.logical_devices is not None:  # which leaves GPUs alone
        return []
    devices = tf.config.get_visible_devices("GPU")
    found = map(tf.config.experimental.get_device_details, devices)
    gpus = [
        Gpu(details.get("device_name", "a GPU"), details.get("compute_capability", UNKNOWN))
        for details in found
    ]
    return gpus[:1] if options.strategy == "one" else gpus


def resolved(options: OptionsT) -> tuple[OptionsT, str]:
    """The flags with what `--precision auto` means, and a line that says it.

    A run that is resumed keeps the precision that it was begun with, whatever it is resumed on.
    The line is empty where the user chose the precision and it means what it says.
    """
    gpus, reason = gpus_of(options), ""
    if options.precision == "auto":
        precision, reason = recorded(options) or of_devices(gpus)
        options = dataclasses.replace(options, precision=precision)
    parts = [f", {reason}"] if reason else []
    if options.precision == "float32" and any(gpu.capability >= AMPERE for gpu in gpus):
        parts.append(TENSOR_FLOAT_32 if options.tensor_float_32 else "; no TensorFloat-32")
    elif not options.tensor_float_32:
        parts.append(NOT_ROUNDED)
    return options, f"precision: {options.precision}{''.join(parts)}" if parts else ""


def recorded(options: TrainOptions) -> tuple[Precision, str] | None:
    """The precision that a run to be resumed was begun with; None where no run is found."""
    precision = begun_with(options, "precision")
    return (precision, "with which the run was begun") if precision in BYTES else None


def half_precision(options: TrainOptions) -> Precision:
    """The 16-bit type that the run's devices have units for; bfloat16 of a CPU, which has none."""
    chosen, _ = of_devices(gpus_of(options))
    return "bfloat16" if chosen == "float32" else chosen


def of_devices(gpus: Sequence[Gpu]) -> tuple[Precision, str]:
    """The precision for these GPUs, or without any for the CPU, and why."""
    if not gpus:
        return "float32", "on a CPU"
    oldest = min(gpus, key=lambda gpu: gpu.capability)
    if oldest.capability >= AMPERE:
        return "bfloat16", f"for which {oldest.name} has units"
    if oldest.capability > UNKNOWN:
        return "float16", f"since {oldest.name} has no units for bfloat16; the loss is scaled"
    return "float32", f"since {oldest.name} does not say what it has units for"

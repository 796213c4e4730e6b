"""What NVIDIA's driver says of the GPUs, which it does before TensorFlow is there to be asked.

The source is NVML, the library behind nvidia-smi; it starts nothing on the GPU.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import NamedTuple

UNNAMED = "a GPU"
LIBRARY = "libnvidia-ml.so.1"
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
NO_GPU = f"{VISIBLE}=-1"
"""In the environment of a command, this leaves GPUs alone."""


class Card(NamedTuple):
    """A GPU; what the driver does not tell is None, as of one that shares the system's memory."""

    name: str
    capability: tuple[int, int] | None
    """NVIDIA's compute capability, such as (8, 0) of an A100."""
    total: int | None
    """Bytes of its memory."""
    free: int | None
    """Bytes of it that no process has now."""


class Driver(NamedTuple):
    """The driver, and the GPUs that this process is let have."""

    cuda: tuple[int, int] | None
    """The newest version of CUDA that it serves, such as (12, 4); None where it does not tell."""
    cards: list[Card]
    certain: bool = True
    """Whether the cards are those that CUDA_VISIBLE_DEVICES means."""
    ordered: bool = True
    """Whether CUDA counts them in this order: by default it begins with the fastest."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def driver() -> Driver | None:
    """The driver and its GPUs, but for those that CUDA_VISIBLE_DEVICES hides; None without any."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    if library.nvmlInit_v2():
        return None
    try:
        version, count = ctypes.c_int(), ctypes.c_uint()
        unknown = library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version))
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        found = [_card(library, index) for index in range(count.value)]
    except AttributeError:  # a driver from before some of these functions
        return None
    finally:
        library.nvmlShutdown()
    cuda = None if unknown else (version.value // 1000, version.value % 1000 // 10)
    cards = [card for _, card in found]
    alike = len({card[:2] for card in cards}) == 1
    ordered = alike or os.environ.get(ORDER) == "PCI_BUS_ID"
    numbers = visible([identity for identity, _ in found])
    if numbers is None:
        return Driver(cuda, cards, certain=False, ordered=False)
    certain = ordered or VISIBLE not in os.environ
    return Driver(cuda, [cards[i] for i in numbers], certain, ordered) if numbers else None


def visible(identities: Sequence[str]) -> list[int] | None:
    """The numbers of those GPUs that CUDA_VISIBLE_DEVICES lets a process have.

    It may name them by number or by what their identity begins with; None where it names parts of
    them (MIG).
    """
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        return list(range(len(identities)))
    found: list[int] = []
    for name in map(str.strip, wanted.split(",")):
        if name.startswith("MIG"):
            return None
        by_name = name.startswith("GPU-")
        meant = [
            number
            for number, identity in enumerate(identities)
            if (identity.startswith(name) if by_name else name == str(number))
        ]
        if len(meant) != 1:  # where CUDA too stops reading
            break
        found += meant
    return found


def _card(library: ctypes.CDLL, index: int) -> tuple[str, Card]:
    """The identity and the GPU of that number."""
    device, memory = ctypes.c_void_p(), _Memory()
    name, identity = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
    major, minor = ctypes.c_int(), ctypes.c_int()
    # Each of them returns a number that is not 0 where it has no answer.
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
        return "", Card(UNNAMED, None, None, None)
    library.nvmlDeviceGetUUID(device, identity, ctypes.c_uint(len(identity)))
    unnamed = library.nvmlDeviceGetName(device, name, ctypes.c_uint(len(name)))
    no_memory = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    no_capability = library.nvmlDeviceGetCudaComputeCapability(
        device, ctypes.byref(major), ctypes.byref(minor)
    )
    return identity.value.decode(errors="replace"), Card(
        UNNAMED if unnamed else name.value.decode(errors="replace"),
        None if no_capability else (major.value, minor.value),
        None if no_memory else memory.total,
        None if no_memory else memory.free,
    )

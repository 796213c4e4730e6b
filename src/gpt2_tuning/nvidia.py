"""What NVIDIA's driver says of the GPUs, which it does before TensorFlow is there to be asked.

The source is NVML, the library behind nvidia-smi; it starts nothing on the GPU.
"""

import ctypes
import os
from typing import NamedTuple

LIBRARY = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"
NO_GPU = f"{VISIBLE}=-1"
"""In the environment of a command, this leaves GPUs alone."""


class Card(NamedTuple):
    """A GPU."""

    name: str
    capability: tuple[int, int]
    """NVIDIA's compute capability, such as (8, 0) of an A100."""
    total: int
    """Bytes of its memory."""
    free: int
    """Bytes of it that no process has now."""


class Driver(NamedTuple):
    """The driver, and the GPUs that this process is let have."""

    cuda: tuple[int, int]
    """The newest version of CUDA that it serves, such as (12, 4)."""
    cards: list[Card]


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
        library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version))
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        cards = [_card(library, index) for index in visible(count.value)]
    except AttributeError:  # a driver from before some of these functions
        return None
    finally:
        library.nvmlShutdown()
    cuda = (version.value // 1000, version.value % 1000 // 10)
    return Driver(cuda, cards) if cards else None


def visible(count: int) -> list[int]:
    """The numbers of those of `count` GPUs that CUDA_VISIBLE_DEVICES lets a process have.

    It may name them otherwise than by number: then all, rather than the wrong ones.
    """
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        return list(range(count))
    found: list[int] = []
    for name in wanted.split(",") if wanted else ():
        if not name.strip().lstrip("-").isdecimal():
            return list(range(count))
        if int(name) not in range(count):  # where CUDA too stops reading
            break
        found.append(int(name))
    return found


def _card(library: ctypes.CDLL, index: int) -> Card:
    """The GPU of that number."""
    device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device))
    library.nvmlDeviceGetName(device, name, ctypes.c_uint(len(name)))
    library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    library.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
    capability = (major.value, minor.value)
    return Card(name.value.decode(errors="replace"), capability, memory.total, memory.free)

"""What NVIDIA's driver says of the GPUs, which it does before TensorFlow is there to be asked.

The source is NVML, the library behind nvidia-smi; it starts nothing on the GPU.
"""

import ctypes
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

LIBRARY = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
NO_GPU = f"{VISIBLE}=-1"
"""In the environment of a command, this leaves GPUs alone."""


class Card(NamedTuple):
    """A GPU; what the driver does not say of it is None."""

    name: str
    capability: tuple[int, int] | None
    """NVIDIA's compute capability, such as (8, 0) of an A100."""
    total: int | None
    """Bytes of its memory."""
    free: int | None
    """Bytes of it that no process has now."""
    uuid: str = ""
    """Such as GPU-8932f937-d72c-4106-c12f-20bd9faed9f6; empty where the driver does not say."""


class Driver(NamedTuple):
    """The driver, and the GPUs that this process is let have."""

    cuda: tuple[int, int] | None
    """The newest version of CUDA that it serves, such as (12, 4)."""
    cards: list[Card]
    """Where it cannot be known which of several they are, all that they may be."""
    build: str = ""
    """Its own version, such as 550.54.15."""


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
        if library.nvmlInit_v2():
            return None
        try:
            return _driver(library)
        finally:
            library.nvmlShutdown()
    except (OSError, AttributeError):  # a driver from before some of these functions
        return None


def _driver(library: ctypes.CDLL) -> Driver | None:
    """What `driver` gives, of the library."""
    version, count = ctypes.c_int(), ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return None
    cards = visible([_card(library, index) for index in range(count.value)])
    failed = library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version))
    cuda = None if failed else (version.value // 1000, version.value % 1000 // 10)
    build = _text(library.nvmlSystemGetDriverVersion)
    return Driver(cuda, cards, build) if cards else None


def visible(cards: list[Card]) -> list[Card]:
    """Those of the system's GPUs that CUDA_VISIBLE_DEVICES lets a process have.

    CUDA's numbers are those of the bus where CUDA_DEVICE_ORDER asks for it; else the fastest comes
    first, and of GPUs that differ it is not known which has a number: then these are all of them.
    Of parts of a GPU (MIG), or where the variable is not understood, no more than names are known.
    """
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        return cards
    names = [name.strip() for name in wanted.split(",")]
    identified = all(card.uuid for card in cards)
    form = r"-?[0-9]+|GPU-\S+|" if identified else "-?[0-9]+|"
    if not all(re.fullmatch(form, name) for name in names):
        return [Card(card.name, None, None, None) for card in cards]
    numbered = os.environ.get(ORDER) == "PCI_BUS_ID" or len({card.name for card in cards}) < 2
    found: list[Card] = []
    for name in names:
        meant = _named(name, cards)
        if len(meant) != 1:  # where CUDA too stops reading
            break
        if name.isdecimal() and not numbered:
            return cards
        found += meant
    return found


def _named(name: str, cards: list[Card]) -> list[Card]:
    """The GPUs that a number, or the beginning of a UUID, may mean."""
    if name.startswith("GPU-"):
        return [card for card in cards if card.uuid.lower().startswith(name.lower())]
    number = int(name or -1)
    return [cards[number]] if number in range(len(cards)) else []


def _card(library: ctypes.CDLL, index: int) -> Card:
    """The GPU of that number on the bus."""
    device, memory = ctypes.c_void_p(), _Memory()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
        return Card("a GPU", None, None, None)
    major, minor = ctypes.c_int(), ctypes.c_int()
    unknown = library.nvmlDeviceGetCudaComputeCapability(
        device, ctypes.byref(major), ctypes.byref(minor)
    )
    # Where processor and GPU share their memory there is none of its own.
    shared = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) or not memory.total
    return Card(
        _text(library.nvmlDeviceGetName, device) or "a GPU",
        None if unknown else (major.value, minor.value),
        None if shared else memory.total,
        None if shared else memory.free,
        _text(library.nvmlDeviceGetUUID, device),
    )


def _text(function: Callable[..., Any], *arguments: Any) -> str:
    """What a function of NVML writes into a buffer; empty where it fails."""
    buffer = ctypes.create_string_buffer(96)
    if function(*arguments, buffer, ctypes.c_uint(len(buffer))):
        return ""
    return buffer.value.decode(errors="replace")

"""Ways to compute the same update in less memory, and which of them fits."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.memory import Memory, Setting, memory_of, rows_at_a_time

MIB = 2**20
CONTEXT = 700 * MIB
"""Of a GPU's memory, what CUDA and the libraries take before TensorFlow takes the rest."""
LEFT_ALONE = {6: 500, 7: 1050, 8: 1536, 9: 1800}
"""What TensorFlow's allocator leaves to CUDA's libraries, in MiB, by the compute capability's first
number; of newer ones as of the last. Source: MinSystemMemory in TensorFlow's gpu_device.cc."""


class Way(NamedTuple):
    """How an update is computed, by train.py's flags."""

    precision: str
    accumulation: int = 1
    rematerialize: bool = False
    optimizer: str = "adamw"

    def flags(self, default: "Way") -> str:
        """The flags that make this way of `default`; nothing where they are the same."""
        parts = {
            f"--precision {self.precision}": self.precision != default.precision,
            f"--gradient_accumulation {self.accumulation}": self.accumulation
            != default.accumulation,
            "--rematerialize": self.rematerialize and not default.rematerialize,
            f"--optimizer {self.optimizer}": self.optimizer != default.optimizer,
        }
        return " ".join(flag for flag, wanted in parts.items() if wanted)


@dataclasses.dataclass(frozen=True)
class Update:
    """What an update computes, however that is done, and on what."""

    config: FamilyConfig
    lora: LoRAConfig | None
    batch_size: int
    """Rows, over all devices."""
    length: int
    """Tokens of a row."""
    devices: int = 1
    """How many share the rows."""
    gpu: bool = False
    """Whether they are GPUs."""
    half: str = "bfloat16"
    """The 16-bit type that they have units for."""

    def memory(self, way: Way) -> Memory:
        """What a device needs."""
        rows = rows_at_a_time(self.batch_size, way.accumulation, self.devices)
        return memory_of(
            Setting(
                self.config,
                self.lora,
                rows,
                self.length,
                way.precision,
                way.optimizer,
                way.rematerialize,
                self.gpu,
            )
        )

    def ways(self, asked: Way) -> Iterator[Way]:
        """`asked` and those that take less, what costs least time or accuracy first."""
        optimizers = [asked.optimizer]
        if self.lora is None and asked.optimizer == "adamw":
            optimizers.append("adafactor")
        precisions = [asked.precision, self.half] if asked.precision == "float32" else None
        rows = rows_at_a_time(self.batch_size, asked.accumulation, self.devices)
        parts = [asked.accumulation * 2**power for power in range(rows.bit_length())]
        for optimizer in optimizers:
            for precision in precisions or [asked.precision]:
                for rematerialize in sorted({asked.rematerialize, True}):
                    for accumulation in parts:
                        yield Way(precision, accumulation, rematerialize, optimizer)


def usable(total: float, capability: tuple[int, int] | None) -> float:
    """What TensorFlow's allocator has of a GPU's bytes, about: nobody else is on it.

    Args:
        total: bytes.
        capability: NVIDIA's compute capability; None, where it is not known, is a new one's.
    """
    newest = max(LEFT_ALONE)
    major, _ = capability or (newest, 0)
    return max(total - CONTEXT - LEFT_ALONE.get(major, LEFT_ALONE[newest]) * MIB, 0.0)

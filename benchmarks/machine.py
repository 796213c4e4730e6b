"""What was measured on: the machine, and what else it did meanwhile."""

import os
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks import common
from gpt2_tuning import processor

STATISTICS = Path("/proc/stat")
"""Where Linux counts the time of all processors."""
VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instruction sets that float32 and bfloat16 products use, by Linux's names."""


class OtherUse:
    """What processes other than ours do on this machine, from here on."""

    def __init__(self) -> None:
        self.started, self.others = time.monotonic(), others_seconds()

    def share(self) -> float | None:
        """The share of all cores that they had; None on a system that does not say.

        Our own processes count as ours once they have been closed.
        """
        now = others_seconds()
        elapsed = time.monotonic() - self.started
        if self.others is None or now is None or elapsed <= 0:
            return None
        return max(0.0, (now - self.others) / elapsed / (os.cpu_count() or 1))


def others_seconds() -> float | None:
    """Seconds of processor time since the machine started, less our own and our children's."""
    if not STATISTICS.exists():
        return None
    return busy_seconds(STATISTICS.read_text(encoding="utf-8")) - sum(os.times()[:4])


def busy_seconds(statistics: str) -> float:
    """The seconds in which the processors were busy, those a hypervisor took (steal) included.

    The first line is `cpu user nice system idle iowait irq softirq steal ...`, in ticks.
    """
    user, nice, system, _, _, irq, softirq, steal = map(int, statistics.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def described(device: str) -> dict[str, Any]:
    """The machine as results.json names it."""
    return {
        "processor": processor.field("model name") or platform.processor() or platform.machine(),
        "instructions": vectors(processor.field("flags")),
        "cores": common.cores(),
        "device": device,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def vectors(flags: str) -> list[str]:
    """Those of a processor's instruction sets on which the speed of products depends.

    A cloud's processors may have one name and differ in them.
    """
    known = flags.split()
    return [name for name in VECTORS if name in known]

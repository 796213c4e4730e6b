"""What was measured on: the machine, and what else it did meanwhile."""

import os
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks import common

STATISTICS = Path("/proc/stat")
"""Where Linux counts the time of all processors."""


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
        "processor": processor(),
        "cores": common.cores(),
        "device": device,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""A worker of the benchmarks that measures nothing: plain Python, driven by the real driver.

Its settings say by variant what it does: {"speed": 3.0, "loss": 1.0, "dies_in": 2, "hangs": true}.
It writes its turns to `turns`, and as long as it or what it has started lives, `lock` is held.
"""

import fcntl
import os
import subprocess
import sys
import time

from benchmarks import worker
from benchmarks.common import Spec


def fake(spec: Spec) -> worker.Ready:
    behaviour = spec.settings[spec.variant]
    lock = os.open(spec.work / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=[lock])
    print("what libraries print")
    if behaviour.get("hangs"):
        time.sleep(600)
    if "too_slow" in behaviour:
        raise worker.TooSlow(behaviour["too_slow"])

    def measure(number: int) -> dict[str, float]:
        if number == behaviour.get("dies_in"):
            sys.exit("no memory left")
        with open(spec.work / "turns", "a") as turns:
            turns.write(f"{spec.variant}{number}\n")
        if number == behaviour.get("hangs_in"):
            time.sleep(600)
        return {"tokens_per_second": behaviour["speed"] + number, "peak_mb": 10.0 + number}

    return worker.Ready(measure, {"loss": behaviour.get("loss", 1.0)}, {})


def started(spec: Spec) -> worker.Ready:
    with open(spec.work / "turns", "a") as turns:
        turns.write(f"{spec.variant} {os.getpid()}\n")
    return worker.Ready(figures={"start_seconds": spec.settings[spec.variant]["seconds"]})


if __name__ == "__main__":
    print("what is printed while libraries are imported", flush=True)
    worker.serve({"step": fake, "start": started}, lambda: {"device": "none"})

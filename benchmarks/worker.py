"""A worker's side of a case: it gets ready once, then measures once for every line it is sent.

It answers with one line of JSON each time, the first when it is loaded and warmed up. It runs in
the peers' environment too, so it needs nothing but numpy.
"""

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Spec

EXTRA_ROUNDS = 3
"""Rounds in which generation also measures top-p and the first token."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """A case that is loaded and warmed up."""

    measure: Callable[[int], Mapping[str, float]] | None = None
    """Gives the figures of a round, by its number; None where getting ready is what is measured."""
    guard: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Results that must agree with the other workers'."""
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What getting ready has measured."""
    trained: int | None = None
    """How many weights are trained."""


class TooSlow(Exception):
    """What a worker knows before it is warmed up: that it would take longer than is waited for."""


def serve(
    kinds: Mapping[str, Callable[[Spec], Ready]], about: Callable[[], dict[str, Any]]
) -> None:
    """Gets ready for the case on the command line and measures it as often as it is asked to."""
    fields = json.loads(sys.argv[1])
    spec = Spec(**{**fields, "work": Path(fields["work"])})
    # Libraries print what they like: to file descriptor 1 too, which from here on is 2.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests = watched_requests()

    def answer(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        ready = kinds[spec.kind](spec)
    except TooSlow as reason:
        answer({"too_slow": str(reason)})
        return
    first = {"guard": ready.guard, "figures": ready.figures, "about": about()}
    answer({**first, "trained": ready.trained} if ready.trained else first)
    while ready.measure:
        answer({"figures": ready.measure(requests.get())})


def watched_requests() -> "queue.SimpleQueue[int]":
    """The numbers of the rounds to measure, as they come in on standard input.

    A thread of its own reads them, so that this process and all it started end as soon as the
    driver is gone, in the middle of a step too.
    """
    requests: queue.SimpleQueue[int] = queue.SimpleQueue()

    def watch() -> None:
        # Not sys.stdin: its lock, held while it waits, would be held in forked processes for ever.
        with open(0, "rb", buffering=0, closefd=False) as lines:
            while line := lines.readline():
                requests.put(int(line))
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    return requests


def seconds_of(action: Callable[[], object]) -> float:
    """How long the action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def steps(
    spec: Spec,
    step: Callable[[], object],
    peak_mb: Callable[[], float],
    loss: float,
    trained: int,
) -> Ready:
    """A training step on the shared batch: the first, which compiles, warms up."""
    tokens = spec.settings["batch"] * spec.settings["length"]
    step()

    def measure(_: int) -> dict[str, float]:
        return {"tokens_per_second": tokens / seconds_of(step), "peak_mb": peak_mb()}

    return Ready(measure, {"loss": loss}, trained=trained)


def started(spec: Spec, step: Callable[[], object]) -> Ready:
    """From the command to the end of the first step: nothing else is measured."""
    step()
    return Ready(figures={"start_seconds": time.time() - spec.launched})


def epochs(run: Callable[[int], object], rows: int, peak_mb: Callable[[], float]) -> Ready:
    """An epoch a round; the first one, which compiles what is new to it, warms up.

    Args:
        run: one epoch, by its number, to the end of its last step.
        rows: in an epoch.
        peak_mb: the most memory so far.
    """
    first = rows / seconds_of(lambda: run(0))

    def measure(number: int) -> dict[str, float]:
        speed = rows / seconds_of(lambda: run(number + 1))
        return {"rows_per_second": speed, "peak_mb": peak_mb()}

    return Ready(measure, figures={"first_epoch_rows_per_second": first})


def preparations(run: Callable[[], object], rows: int) -> Ready:
    """A data set prepared again and again; the first time warms up."""
    run()
    return Ready(lambda _: {"rows_per_second": rows / seconds_of(run)})


Generate = Callable[[str, int], Sequence[Sequence[int]]]
"""The continuations by "greedy" or "top_p" with so many new tokens."""


def generations(spec: Spec, generate: Generate, peak_mb: Callable[[], float]) -> Ready:
    """Continuations of the shared prompts; each way is gone once to warm up."""
    new = spec.settings["new"]
    tokens = spec.settings["batch"] * new
    continuations = generate("greedy", new)
    generate("top_p", new)
    generate("greedy", 1)

    def measure(number: int) -> dict[str, float]:
        figures = {"tokens_per_second": tokens / seconds_of(lambda: generate("greedy", new))}
        if number < EXTRA_ROUNDS:
            top_p = seconds_of(lambda: generate("top_p", new))
            figures["top_p_tokens_per_second"] = tokens / top_p
            figures["first_token_seconds"] = seconds_of(lambda: generate("greedy", 1))
        return {**figures, "peak_mb": peak_mb()}

    return Ready(measure, {"tokens": continuations})

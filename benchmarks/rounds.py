"""The rounds of one case, in which ours and the peers' take turns.

So what else the machine does falls on all of them. In the first round every variant has its turn as
soon as it is warmed up, and the slower of two variants of one side is closed at once. From the
second on one process of each side is left, and the order changes from round to round. While one
measures, the others wait for their next line.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.cases import FIGURES, OURS, Case, is_grouped
from benchmarks.processes import Ended, NoAnswer, Process
from benchmarks.report import Run

Turn = tuple[str, str]
"""A worker and its variant."""


@dataclasses.dataclass
class Rounds:
    """All measurements of a case."""

    case: Case
    turns: Sequence[Turn]
    """Who takes part; ours first, which the others are compared with."""
    launch: Callable[[str, str], Process]
    """Starts the process of a worker's variant."""
    repeats: int
    timeout: float
    """Seconds that an answer is waited for."""
    say: Callable[[str], object] = print

    def __post_init__(self) -> None:
        self.runs = {turn: Run(*turn) for turn in self.turns}
        self.alive: dict[Turn, Process] = {}
        self.standing: list[Turn] = []
        """Those that measure the next round."""
        self.seconds: dict[Turn, list[float]] = {}
        """That each has taken for a round."""

    def measured(self) -> list[Run]:
        """Everything that could be measured; no process is left."""
        try:
            for turn in self.turns:
                self.enter(turn)
            for number in range(1, min(self.repeats, self.case.rounds or self.repeats)):
                for turn in self.standing[:: -1 if number % 2 else 1]:
                    self.measure(turn, number)
        finally:
            for process in self.alive.values():
                process.close()
        return list(self.runs.values())

    def enter(self, turn: Turn) -> None:
        """A variant's first round; of its side the faster one stays."""
        self.standing.append(turn)
        if not self.case.fresh:
            self.begin(turn)
        self.measure(turn, 0)
        side = [other for other in self.standing if side_of(other) == side_of(turn)]
        fastest = max(side, key=lambda other: score(self.runs[other]), default=None)
        for other in side:
            if other != fastest:
                self.close(other)

    def measure(self, turn: Turn, number: int) -> None:
        """A round of one variant, unless it has been given up."""
        if turn not in self.standing:
            return
        start = time.monotonic()
        if self.case.fresh:
            self.begin(turn)
            if turn in self.alive:
                self.alive.pop(turn).close()
        else:
            self.hear(turn, lambda: self.alive[turn].ask(number, self.timeout))
        if turn in self.standing:
            self.seconds.setdefault(turn, []).append(time.monotonic() - start)
            self.tell(turn, f"round {number + 1}: {said(self.runs[turn])}")

    def begin(self, turn: Turn) -> None:
        """Starts a process and waits until it is warmed up, unless its work is not ours."""
        self.alive[turn] = self.launch(*turn)
        if not self.hear(turn, lambda: self.alive[turn].answer(self.timeout)):
            return
        ours = next((run.result for run in self.runs.values() if run.worker == OURS), None)
        problem = report.disagreement(self.case, ours, self.runs[turn].result or {})
        if problem:
            self.give_up(turn, f"not compared: {problem}")

    def hear(self, turn: Turn, get: Callable[[], dict[str, Any]]) -> bool:
        """Keeps what the process answers; where it does not, the variant is given up."""
        try:
            answer = get()
        except NoAnswer:
            answer = {"too_slow": f"{self.timeout:.0f} s without {self.case.noun}"}
        except Ended as why:
            self.give_up(turn, f"failed: {why}")
            return False
        if "too_slow" in answer:
            mine = [
                value for one, values in self.seconds.items() if one[0] == OURS for value in values
            ]
            beside = f", where ours takes {median(mine):.1f} s" if mine else ""
            self.give_up(turn, f"stopped: {answer['too_slow']}{beside}")
            return False
        self.keep(turn, answer)
        return True

    def keep(self, turn: Turn, answer: Mapping[str, Any]) -> None:
        """Adds an answer to what is known of its variant."""
        run = self.runs[turn]
        figures = run.result["figures"] if run.result else {}
        for name, value in answer["figures"].items():
            once = name in FIGURES and FIGURES[name].once
            figures[name] = [value] if once else [*figures.get(name, []), value]
        run.result = {**(run.result or {}), **answer, "figures": figures}

    def give_up(self, turn: Turn, why: str) -> None:
        """Leaves a variant, whose figures so far stay, with the reason."""
        self.runs[turn].missing = why
        self.tell(turn, why)
        self.close(turn)

    def close(self, turn: Turn) -> None:
        """A variant that takes no further part."""
        self.standing.remove(turn)
        if turn in self.alive:
            self.alive.pop(turn).close()

    def tell(self, turn: Turn, what: str) -> None:
        """A line of the log."""
        self.say(f"{self.case.name}  {'/'.join(turn)}  {what}")


def side_of(turn: Turn) -> tuple[str, bool]:
    """Variants among which the fastest is sought.

    Those that group rows by length are a side of their own, so that both ways of making batches are
    measured to the end.
    """
    return turn[0], is_grouped(turn[1])


def score(run: Run) -> float:
    """The median of the main figure, so that more is better; 0 for points of a curve."""
    figures = (run.result or {}).get("figures", {})
    for name, figure in FIGURES.items():
        if name in figures and not figure.suffix:
            return median(figures[name]) * (1 if figure.higher_is_better else -1)
    return 0.0


def said(run: Run) -> str:
    """The latest figures in a line."""
    figures = (run.result or {}).get("figures", {})
    return ", ".join(f"{name} {values[-1]:,.3f}" for name, values in figures.items())

"""The variants of several cases at once: all get ready side by side, then they measure in turns.

That is for lent time, most of which goes by while something is compiled. What a compiler tries out
on a GPU meanwhile it tries beside others.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.cases import OURS, Case
from benchmarks.processes import Process
from benchmarks.rounds import Rounds, Turn

READY = 0.75
"""The share of the time after which what is not ready is given up, so that others can measure."""
AT_ONCE = 0.5
"""Seconds in which an answer that is there already is read."""
Launch = Callable[[Case, str, str], Process]


class Beside(Rounds):
    """The rounds of a case whose processes get ready beside those of others.

    Its `timeout` is what is left of the time for all.
    """

    def launch_all(self) -> None:
        """Starts every variant's process, and waits for none."""
        for turn in self.turns:
            self.alive[turn] = self.launch(*turn)
            self.standing.append(turn)

    def await_all(self, left: Callable[[], float]) -> None:
        """Hears of each that it is ready; what does not do the work of ours is given up."""
        for turn in self.turns:
            self.timeout = left()
            process = self.alive[turn]
            if not self.hear(turn, functools.partial(process.answer, self.timeout)):
                continue
            problem = report.disagreement(self.case, self.of_ours(), self.runs[turn].result or {})
            if problem:
                self.give_up(turn, f"not compared: {problem}")

    def measure_all(self, left: Callable[[], float]) -> None:
        """Every variant measures its rounds, while all others wait."""
        for number in range(self.repeats):
            for turn in list(self.standing):
                self.timeout = left()
                if self.timeout > AT_ONCE:
                    self.measure(turn, number)

    def of_ours(self) -> Mapping[str, Any] | None:
        """What ours has answered."""
        runs = (run for run in self.runs.values() if run.worker == OURS)
        return next((run.result for run in runs if run.result), None)

    def end(self) -> None:
        """No process is left."""
        for process in self.alive.values():
            process.close()


def summaries(
    cases: Sequence[Case],
    turns: Callable[[Case], Sequence[Turn]],
    launch: Launch,
    repeats: int,
    seconds: float,
    say: Callable[[str], object],
) -> list[dict[str, Any]]:
    """The summaries of some cases, as `report.summarized` has them, in so many seconds.

    Args:
        cases: measured together; the memory of all is in use at once.
        turns: who takes part in a case.
        launch: starts the process of a case's worker and variant.
        repeats: rounds that each variant measures, if there is time.
        seconds: for all that; READY of them to get ready.
        say: is told what is done.
    """
    begun = time.monotonic()

    def left(share: float = 1.0) -> float:
        return max(AT_ONCE, begun + share * seconds - time.monotonic())

    def of_case(case: Case) -> Beside:
        def launched(worker: str, variant: str) -> Process:
            return launch(case, worker, variant)

        return Beside(case, turns(case), launched, repeats, seconds, say)

    all_rounds = [of_case(case) for case in cases]
    try:
        for rounds in all_rounds:
            rounds.launch_all()
        for rounds in all_rounds:
            rounds.await_all(functools.partial(left, READY))
        for rounds in all_rounds:
            rounds.measure_all(left)
    finally:
        for rounds in all_rounds:
            rounds.end()
    return [report.summarized(rounds.case, list(rounds.runs.values())) for rounds in all_rounds]

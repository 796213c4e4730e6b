"""The thread that owns the model: answers of many people in one batch, which rows join and leave.

A turn reads the prompts of some that wait, if there is room, and adds a few tokens to every row. So
nobody waits for another's end, and where an answer comes in makes no difference to any.
"""

import collections
import concurrent.futures
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.running import RunningBatch
from gpt2_tuning.inference.scoring import Scorer
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.serving.rows import Asked, Listener, ServedRow

CHUNK = 8
"""Tokens of every row in a turn, after which others may join. A turn copies the cache."""
LEAST = 4
"""The same where a row needs fewer to its end."""
PROMPT_TOKENS = 1024
"""The most tokens of prompts that are read together, padding included: the others wait so long."""
LONGEST_WAIT = 60
"""Seconds after which people are told to come again, at most."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Busy(Exception):
    """As many wait as may; `seconds` says when there may be room."""

    def __init__(self, seconds: int):
        super().__init__(f"too many answers are waited for: try again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The engine takes nothing more."""


@dataclasses.dataclass
class Counts:
    """What the engine did since it began."""

    rows: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    turns: int = 0
    seconds: float = 0.0
    """In turns."""
    failures: int = 0


class Engine:
    """Computes what is asked for, in a thread of its own.

    Args:
        model: a language model, whose weights and adapters do not change from now on; None where
            only jobs are run.
        tokenizer: between its tokens and text.
        slots: how many rows are computed together.
        queue: how many rows, or jobs, may wait.
    """

    def __init__(
        self, model: LanguageModel | None, tokenizer: Tokenizer, slots: int = 16, queue: int = 256
    ):
        self.slots, self.queue, self.counts = slots, queue, Counts()
        self._tokenizer = tokenizer
        self._batch = None if model is None else RunningBatch(model, tokenizer)
        self.scorer = None if model is None or self._batch is None else Scorer(
            model.built_now(), self._batch.head
        )  # fmt: skip
        self._rows: list[ServedRow] = []
        self._waiting: collections.deque[ServedRow] = collections.deque()
        self._jobs: collections.deque[tuple[concurrent.futures.Future, Callable]] = (
            collections.deque()
        )
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many rows are computed now."""
        return sum(not row.over.is_set() for row in self._rows)

    @property
    def waiting(self) -> int:
        """How many rows and jobs wait."""
        return len(self._waiting) + len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def submit(self, asked: Sequence[tuple[Asked, Listener]]) -> list[ServedRow]:
        """Takes in the answers of one request, all or none of them.

        Raises:
            Busy: so many may not wait.
            Closed: the engine ends.
        """
        rows = [ServedRow(one, self._tokenizer, listener) for one, listener in asked]
        with self._changed:
            self._check_room(len(rows))
            self._waiting.extend(rows)
            self._changed.notify()
        return rows

    def run(self, job: Callable[[], T]) -> "concurrent.futures.Future[T]":
        """Has a function called in the thread, between two turns. Raises as `submit`."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._changed:
            self._check_room(1)
            self._jobs.append((future, job))
            self._changed.notify()
        return future

    def leave(self, rows: Sequence[ServedRow]) -> None:
        """Nobody waits for these rows any more: their places are free at the next turn."""
        for row in rows:
            row.leave()
        with self._changed:
            self._waiting = collections.deque(row for row in self._waiting if not row.over.is_set())

    def close(self, timeout: float | None = None) -> bool:
        """Takes nothing more, and finishes what is there; returns whether all of it is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _check_room(self, count: int) -> None:
        if self._closing:
            raise Closed
        if self.waiting + count > self.queue:
            turns = self.counts.seconds / max(self.counts.rows, 1)
            seconds = math.ceil(turns * self.waiting)
            raise Busy(min(max(seconds, 1), LONGEST_WAIT))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._rows or self._waiting or self._jobs):
                    self._changed.wait()
                if not (self._rows or self._waiting or self._jobs):
                    return
                job = self._jobs.popleft() if self._jobs else None
                self._end_late()
                group = self._next_group()
            if job is not None:
                perform(*job)
            begun = time.monotonic()
            try:
                self._turn(group)
            except Exception:  # one that failed must not take the server with it
                log.exception("a turn of the engine failed")
                self.counts.failures += 1
                for row in [*self._rows, *group]:
                    row.end("failed")
                self._rows = []
            self.counts.turns += 1
            self.counts.seconds += time.monotonic() - begun

    def _end_late(self) -> None:
        """Ends the rows whose time is over."""
        now = time.monotonic()
        for row in [*self._rows, *self._waiting]:
            if row.asked.deadline <= now:
                row.end("late")
        if any(row.over.is_set() for row in self._waiting):
            self._waiting = collections.deque(row for row in self._waiting if not row.over.is_set())

    def _next_group(self) -> list[ServedRow]:
        """Those that wait and whose prompts are read in this turn, in the order they came in."""
        room, group, longest = self.slots - self.running, list[ServedRow](), 0
        while self._waiting and len(group) < room:
            longest = max(longest, len(self._waiting[0].asked.prompt))
            if group and longest * (len(group) + 1) > PROMPT_TOKENS:
                break
            group.append(self._waiting.popleft())
        return group

    def _turn(self, group: list[ServedRow]) -> None:
        """Takes in those that join, lets go of those that are over, and adds tokens to the rest."""
        batch = self._batch
        if batch is None:
            return
        new = None
        if group:
            asked = [row.asked for row in group]
            new = batch.read(
                [one.prompt for one in asked],
                [one.number for one in asked],
                [one.generation for one in asked],
                [one.adapter for one in asked],
            )
            self.counts.rows += len(group)
            self.counts.prompt_tokens += sum(len(one.prompt) for one in asked)
            self._give(group, new.tokens.numpy()[:, None].tolist())
        staying = [place for place, row in enumerate(self._rows) if not row.over.is_set()]
        joining = [place for place, row in enumerate(group) if not row.over.is_set()]
        if group or len(staying) < len(self._rows):
            rows = [self._rows[place] for place in staying] + [group[place] for place in joining]
            self._rows = rows
            batch.regroup(staying, new, joining)
        if self._rows:
            count = min(CHUNK, max(LEAST, min(row.left for row in self._rows)))
            self._give(self._rows, batch.advance(count).tolist())

    def _give(self, rows: Sequence[ServedRow], tokens: Sequence[list[int]]) -> None:
        """Hands rows their next tokens."""
        for row, own in zip(rows, tokens, strict=True):
            before = row.left
            row.take(own, self.scorer)
            self.counts.new_tokens += min(before, len(own)) if not row.gone else 0


def perform(future: concurrent.futures.Future, job: Callable) -> None:
    """Calls a function for whoever waits for it, if somebody does."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:  # whoever waits is told
        future.set_exception(error)

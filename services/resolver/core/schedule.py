"""When to ask for which name (decision D6)."""

import heapq
import itertools
from collections.abc import Iterable

import msgspec

from services.resolver.core.questions import Question

INTERVAL_S = 60.0
"""Between two look-ups of a name; how long its records may be cached by others makes no difference (decision D6)."""

FLOOR_S = 2.0
"""No name is asked for more often than this, whatever is configured (decision D6)."""

RETRY_S = 5.0
"""After a look-up that brought no address at all (NetBird's --dns-router-interval: 5 s after a total failure)."""

SPREAD = 0.1
"""Up to this part of the interval is left out, so that names added together drift apart."""


class Due(msgspec.Struct, frozen=True):
    """What to ask now. failed: the last look-up brought nothing, so this one may take long."""

    question: Question
    failed: bool


class _State(msgspec.Struct):
    at: float
    failed: bool = False
    under_way: bool = False


class Schedule:
    """Says which questions are due. All times are seconds on one monotonic clock; `now` never goes backwards.

    One that is being asked is not due again before `done`, and none waits for another (decision D7).
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = max(FLOOR_S, interval_s)
        self._states: dict[Question, _State] = {}
        self._queue: list[tuple[float, int, Question]] = []
        """Heap; an entry counts only while it agrees with its question's `at`. The number keeps equal ones in order."""
        self._numbers = itertools.count()

    def want(self, questions: Iterable[Question], now: float) -> None:
        """These and no others are wanted. New ones are due at once, in the order given."""
        wanted = dict.fromkeys(questions)
        for gone in self._states.keys() - wanted.keys():
            del self._states[gone]
        for question in [new for new in wanted if new not in self._states]:
            self._states[question] = _State(now)
            self._push(question)

    def due(self, now: float) -> list[Due]:
        """What to ask now, the longest waiting first. Each has to be reported with `done`."""
        due = []
        while (at := self.next_at()) is not None and at <= now:
            _, _, question = heapq.heappop(self._queue)
            state = self._states[question]
            state.under_way = True
            due.append(Due(question, state.failed))
        return due

    def done(self, question: Question, *, failed: bool, now: float, fraction: float) -> None:
        """The look-up ended; failed: it brought no address. fraction: a random number in [0, 1)."""
        state = self._states.get(question)
        if state is None or not state.under_way:
            return
        pause = min(RETRY_S, self._interval_s) if failed else self._interval_s
        state.at = now + max(FLOOR_S, pause * (1 - SPREAD * fraction))
        state.failed, state.under_way = failed, False
        self._push(question)

    def next_at(self) -> float | None:
        """When the next one is due; None while there is nothing to wait for."""
        while self._queue:
            at, _, question = self._queue[0]
            state = self._states.get(question)
            if state is not None and state.at == at and not state.under_way:
                return at
            heapq.heappop(self._queue)
        return None

    def _push(self, question: Question) -> None:
        heapq.heappush(self._queue, (self._states[question].at, next(self._numbers), question))

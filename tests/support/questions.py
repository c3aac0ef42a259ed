"""A prober in virtual time, between hosts that answer as a test says."""

import heapq
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from services.agent.core.ha.probing import Prober, Question, Target
from services.agent.core.ha.standing import Health, Verdict

Answer: TypeAlias = Callable[[Question, float], float | None]
"""Seconds until the answer to a question that was asked at a time, None for never."""


class Came(NamedTuple):
    """An answer on its way."""

    at: float
    number: int
    source: str


class Asked(NamedTuple):
    at: float
    key: str
    number: int
    took: float | None


class Turn(NamedTuple):
    """A verdict that became another one."""

    at: float
    key: str
    verdict: Verdict


def at_once(question: Question, now: float) -> float | None:
    return 0.001


def never(question: Question, now: float) -> float | None:
    return None


class World:
    """answer: of every target. late: how many seconds after it wanted to the prober is called.

    sends: whether the kernel takes a question. log: what was asked. turns: what became of verdicts.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        answer: Answer = at_once,
        *,
        late: Callable[[], float] = lambda: 0.0,
        sends: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self.now = 1000.0
        self.prober = Prober(self.now)
        self.answer, self.late, self.sends = answer, late, sends
        self.log: list[Asked] = []
        self.turns: list[Turn] = []
        self._under_way: list[Came] = []
        self._told: dict[str, Verdict] = {}
        self.follow(targets)

    def follow(self, targets: Mapping[str, Target]) -> None:
        self.prober.follow(targets, self.now)

    def health(self, key: str = "gw") -> Health:
        return self.prober.health[key]

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until = self.now + seconds
        while (at := self.prober.next_at()) is not None:
            at = max(at, self.now) + self.late()
            if at > until:
                break
            self._hear(at)
            self.now = at
            self._step()
        self._hear(until)
        self.now = until

    def asked(self, key: str = "gw") -> list[float]:
        """When the target was asked, in seconds since the beginning."""
        return [round(one.at - 1000.0, 3) for one in self.log if one.key == key]

    def _hear(self, until: float) -> None:
        while self._under_way and self._under_way[0].at <= until:
            came = heapq.heappop(self._under_way)
            self.prober.answered(came.number, came.source, came.at)
            self._look(came.at)

    def _step(self) -> None:
        for question in self.prober.advance(self.now):
            if not self.sends(self.now):
                self.prober.unsent(question)
                continue
            took = self.answer(question, self.now)
            self.log.append(Asked(self.now, question.key, question.number, took))
            if took is not None:
                heapq.heappush(self._under_way, Came(self.now + took, question.number, question.target.address))
        self._look(self.now)

    def _look(self, at: float) -> None:
        for key, health in self.prober.health.items():
            if health.verdict != self._told.get(key, "unknown"):
                self.turns.append(Turn(at, key, health.verdict))
            self._told[key] = health.verdict

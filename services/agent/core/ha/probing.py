"""Which hosts answer: asks many targets, each at its own pace, and judges them by what comes back. Sans-IO.

Whoever drives it takes every answer that has come in before each `advance`:

    prober.follow(targets, now)                              when what is to be asked changed
    prober.answered(number, source, at)                      for each answer, at its arrival
    prober.refused(number, source, at)                       for each that says no
    for question in prober.advance(now): …                   at `prober.next_at()`, or before
    prober.unsent(question)                                  when the kernel would not take it

A question is lost when no answer came within the time that answers take (line.py). The first lost one makes a target
suspected, which is then asked every 50 ms, and down once nothing was answered that was asked in the 600 ms since. Time
is the prober's own (owntime.py): what it slept through is no silence.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from services.agent.core.ha.echo import Reason
from services.agent.core.ha.line import SUSPICIOUS_S, Asked, Line
from services.agent.core.ha.owntime import OwnTime
from services.agent.core.ha.standing import Health

SLACK, SLACK_MAX_S = 1 / 4, 0.05
"""So much of its pace a target is asked early, together with another one: few wake-ups for many targets."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """Whom to ask: by ICMP echo, or, with a port, by a TCP connection. pace_s: seconds between two questions."""

    address: str
    pace_s: float
    port: int = 0


class Question(msgspec.Struct, frozen=True, gc=False):
    """One that is to be asked now. key: of the target. number: its own among all questions of the run."""

    key: str
    target: Target
    number: int


Targets: TypeAlias = Mapping[str, Target]


class Prober:
    """now: monotonic seconds, of one clock."""

    def __init__(self, now: float) -> None:
        self._time = OwnTime(now)
        self._targets: dict[str, Target] = {}
        self._lines: dict[str, Line] = {}
        self._at: dict[str, list[str]] = {}
        """Address → keys of the targets there."""
        self._numbers = 0
        self.asked: Counter[str] = Counter()
        """Key → how many questions left this host for the target, while there is such a target."""
        self.changes = 0
        """How often a verdict became another one."""

    @property
    def missed_s(self) -> float:
        """Seconds in which nobody listened, or that a clock jumped: they count as no silence."""
        return self._time.missed_s

    def follow(self, targets: Targets, now: float) -> None:
        """These are to be asked from now on; who is new, or asked more often from now on, at once or nearly.

        Of a target that left, or that has another address, nothing is remembered.
        """
        for key in self._targets.keys() - targets.keys():
            del self._targets[key], self._lines[key], self.asked[key]
        for key, target in targets.items():
            former = self._targets.get(key)
            self._targets[key] = target
            if former is None or (former.address, former.port) != (target.address, target.port):
                self._lines[key] = Line(self._time.seconds, now)
            elif target.pace_s < former.pace_s:
                line = self._lines[key]
                line.ask_at = min(line.ask_at, line.ask_at - former.pace_s + target.pace_s)
        self._at = {}
        for key, target in self._targets.items():
            self._at.setdefault(target.address, []).append(key)

    def nudge(self, keys: Iterable[str]) -> None:
        """Ask these at once: something may be different."""
        for key in keys:
            if key in self._lines:
                self._lines[key].ask_at = self._time.seconds

    def advance(self, now: float) -> list[Question]:
        """Judge by the answers that were taken, and give the questions to ask now."""
        self._time.advance(now)
        own, questions = self._time.seconds, list[Question]()
        for key, line in self._lines.items():
            target = self._targets[key]
            if line.due_at > own + _slack_s(target.pace_s):
                continue
            before = line.verdict
            line.judge(own, now)
            self.changes += line.verdict != before
            pace_s = SUSPICIOUS_S if line.is_suspected else target.pace_s
            if line.ask_at <= own + _slack_s(pace_s):
                line.ask_at = own + pace_s
                questions.append(self._question(key, line, now))
        return questions

    def unsent(self, question: Question) -> None:
        """The question never left this host: nobody owes an answer."""
        self.asked[question.key] -= 1
        self._lines[question.key].unsent(question.number)

    def answered(self, number: int, source: str, at: float) -> float | Reason:
        """Take an answer that came in at `at`; how long it took, or why it is ignored."""
        for key in self._at.get(source, ()):
            line = self._lines[key]
            before = line.verdict
            took = line.answered(number, at, self._time.seconds)
            self.changes += line.verdict != before
            if took != "old":
                return took
        return "old"

    def refused(self, number: int, source: str, at: float) -> None:
        """Take an answer that came in at `at` and says no: who was asked is there, and is down for this host."""
        for key in self._at.get(source, ()):
            line = self._lines[key]
            before = line.verdict
            line.refused(number, at)
            self.changes += line.verdict != before

    def next_at(self) -> float | None:
        """When to call `advance`; None: there is nobody to ask."""
        return self._time.plan(min((line.due_at for line in self._lines.values()), default=None))

    @property
    def health(self) -> dict[str, Health]:
        """Key → what is known of the target."""
        return {key: line.health for key, line in self._lines.items()}

    def _question(self, key: str, line: Line, now: float) -> Question:
        self._numbers += 1
        line.asked(Asked(self._numbers, self._time.seconds, now))
        self.asked[key] += 1
        return Question(key, self._targets[key], self._numbers)


def _slack_s(pace_s: float) -> float:
    return min(pace_s * SLACK, SLACK_MAX_S)

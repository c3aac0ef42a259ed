"""What is known of one target by what was asked of it and answered: verdict, round trip time and loss. Sans-IO."""

from collections import deque
from typing import Literal, NamedTuple

from services.agent.core.ha.standing import Health, Verdict

SUSPICIOUS_S = 0.05
"""Between two questions once one was lost."""

TIMEOUT_MIN_S, TIMEOUT_MAX_S, TIMEOUT_FIRST_S = 0.2, 2.0, 1.0
"""How long a question waits for its answer; the first one of all as in RFC 6298."""

SILENCE_S = 0.4
"""How much longer than that nothing may be answered: 200 ms x 3 where answers are fast (decision G2)."""

LOST_AT_LEAST = 5
"""Questions without an answer that make a target down.

With 2 % of packets lost each way a question stays unanswered with p = 1 - 0.98^2 = 0.0396. Asked every 200 ms for 10
minutes there are 3,000 questions that a false alarm could begin with, and after each one at least four more are lost in
a row: 3,000 x p^5 = 0.0003. At round trip times below 50 ms nine are asked in those 600 ms: 3,000 x p^9 = 7e-10.
"""

REMEMBERED = 50
"""The last questions: what loss is the share of, and what may still be answered."""

LATE_S = 10.0
"""An answer after longer is to an old question."""

_GAIN, _VARIANCE_GAIN = 1 / 8, 1 / 4
"""RFC 6298, section 2."""

_ROUNDING_S = 1e-6


class Asked(NamedTuple):
    """A question. own: seconds of own time at which it was asked, at: the same in monotonic seconds."""

    number: int
    own: float
    at: float


class Line:
    """The target's verdict, and when it is to be asked next. Numbers of questions grow.

    ask_at: own seconds. since: monotonic seconds.
    """

    def __init__(self, ask_at: float, now: float) -> None:
        self.verdict: Verdict = "unknown"
        self.since = now
        self.ask_at = ask_at
        self.rtt_s = 0.0
        self._variance_s = 0.0
        self._asked: dict[int, Asked] = {}
        self._undecided: deque[Asked] = deque()
        self._unheard: deque[Asked] = deque()
        """Those asked after the newest one that was answered: silence is what they have met with."""
        self._answered: set[int] = set()
        self._lost: set[int] = set()
        self._newest = 0
        self._is_hurried = False
        """Whether it is asked every SUSPICIOUS_S."""
        self._judged_own = 0.0
        self._in_outage = 0
        """The newest question before the target was up: what waited until then, for a session or a link address, tells
        no round trip time."""

    @property
    def health(self) -> Health:
        decided = len(self._lost) + len(self._answered)
        loss = len(self._lost) / decided if decided else 0.0
        return Health(verdict=self.verdict, since=self.since, rtt_s=self.rtt_s, loss=loss, spread_s=self._variance_s)

    @property
    def timeout_s(self) -> float:
        """After which a question counts as lost."""
        if not self.rtt_s:
            return TIMEOUT_FIRST_S
        return min(TIMEOUT_MAX_S, max(TIMEOUT_MIN_S, self.rtt_s + 4 * self._variance_s))

    @property
    def is_suspected(self) -> bool:
        return self.verdict == "up" and bool(self._unheard) and self._unheard[0].number in self._lost

    @property
    def due_at(self) -> float:
        """When there is something to ask or to decide, in own seconds.

        What could not be decided when its time came waits for the next question: fewer may have left than it takes.
        """
        if self.verdict != "up" or not self._unheard:
            return self.ask_at
        lost_at = self._unheard[0].own + self.timeout_s
        if not self.is_suspected:
            return min(self.ask_at, lost_at)
        down_at = lost_at + SILENCE_S
        return min(self.ask_at, down_at) if down_at > self._judged_own + _ROUNDING_S else self.ask_at

    def asked(self, question: Asked) -> None:
        self._newest = question.number
        self._asked[question.number] = question
        self._undecided.append(question)
        self._unheard.append(question)
        while len(self._asked) > REMEMBERED:
            self._forget(next(iter(self._asked)))

    def unsent(self, number: int) -> None:
        """The question never left this host."""
        self._forget(number)

    def answered(self, number: int, at: float, own: float) -> float | Literal["old", "doubled"]:
        """Take an answer that came in at `at`; how many seconds it took, or why it is ignored."""
        question = self._asked.get(number)
        if question is None or own - question.own > LATE_S:
            return "old"
        if number in self._answered:
            return "doubled"
        self._lost.discard(number)
        self._answered.add(number)
        took_s = max(_ROUNDING_S, at - question.at)
        if self.verdict == "down" or (self.verdict == "unknown" and took_s > TIMEOUT_FIRST_S):
            self._in_outage = self._newest
        # An answer from before its question: the wall clock, of which the kernel's times are, was set forward.
        if number > self._in_outage and at >= question.at:
            self._measure(took_s)
        if self._unheard and number >= self._unheard[0].number:
            while self._unheard and self._unheard[0].number <= number:
                self._unheard.popleft()
            self._become("up", max(at, question.at))
        return took_s

    def refused(self, number: int, at: float) -> None:
        """The question was answered by who carries nothing for this host; what it says of an older one is past."""
        if number not in self._asked or number in self._answered:
            return
        self._lost.discard(number)
        self._answered.add(number)
        if self._unheard and number >= self._unheard[0].number:
            while self._unheard and self._unheard[0].number <= number:
                self._unheard.popleft()
            self._become("down", at)

    def judge(self, own: float, now: float) -> None:
        """Decide what can be decided now. Every answer that has come in must have been taken."""
        timeout_s, self._judged_own = self.timeout_s, own
        while self._undecided and own - self._undecided[0].own >= timeout_s - _ROUNDING_S:
            number = self._undecided.popleft().number
            if number in self._asked and number not in self._answered:
                self._lost.add(number)
        was_hurried, self._is_hurried = self._is_hurried, self.is_suspected
        if not self.is_suspected:
            return
        if not was_hurried:
            self.ask_at = min(self.ask_at, own)
        silent_s = own - self._unheard[0].own
        lost = sum(1 for question in self._unheard if question.number in self._lost)
        if silent_s >= timeout_s + SILENCE_S - _ROUNDING_S and lost >= LOST_AT_LEAST:
            self._become("down", now)

    def _measure(self, rtt_s: float) -> None:
        if not self.rtt_s:
            self.rtt_s, self._variance_s = rtt_s, rtt_s / 2
            return
        self._variance_s += _VARIANCE_GAIN * (abs(self.rtt_s - rtt_s) - self._variance_s)
        self.rtt_s += _GAIN * (rtt_s - self.rtt_s)

    def _become(self, verdict: Verdict, now: float) -> None:
        if verdict != self.verdict:
            self.verdict, self.since = verdict, now
            self._is_hurried, self._judged_own = False, 0.0

    def _forget(self, number: int) -> None:
        question = self._asked.pop(number, None)
        self._answered.discard(number)
        self._lost.discard(number)
        if question is not None and question in self._unheard:
            self._unheard.remove(question)

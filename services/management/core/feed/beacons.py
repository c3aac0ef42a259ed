"""When to tell the readers of an audience what FEED holds for it.

What is written while a reader's subscription spreads among the servers may be in no reading and come to it in no live
copy, and nothing after it would tell. A beacon does: after the last change of an audience, and a few times more, since
the beacon takes the same way. It costs as much as another small document; where nothing changes nothing is sent.
"""

from heapq import heappop, heappush

import msgspec

from shared.events.documents import Beacon

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 120.0, 600.0)
"""From the change to the first beacon, from that to the next, and so on. The first is long enough for the change itself
to arrive before; the last ones are for servers that come back behind the others."""

Audience = tuple[str, str]
"""Account and audience."""


class Beacons:
    """The beacons of a replica, from `begin` to `end` of its writing FEED. All times are seconds on one clock.

    `stood`: what the writer found when it began; everybody is told of it, since its predecessor may have died before it
    told. `stored`: what it wrote since, in the order of the sequences. What FEED still takes of a writer after its end
    is its successor's to find and to tell: counted here without what stood before, it would tell readers that they have
    everything.
    """

    def __init__(self) -> None:
        self._writing = False
        self._audiences: dict[Audience, _Audience] = {}
        self._due: list[tuple[float, Audience]] = []

    def begin(self) -> None:
        """The replica writes from now on, and is told of all that stands before anything is stored."""
        self.end()
        self._writing = True

    def end(self) -> None:
        """Another replica may write."""
        self._writing = False
        self._audiences.clear()
        self._due.clear()

    def stood(self, audience: Audience, sequence: int, now: float) -> None:
        held = self._audiences.setdefault(audience, _Audience())
        held.after = held.newest = max(held.newest, sequence)
        held.beacon = None
        self._plan(audience, held, now + PAUSES_S[0])

    def stored(self, audience: Audience, sequence: int, now: float) -> None:
        if not self._writing:
            return
        held = self._audiences.setdefault(audience, _Audience())
        held.newest = max(held.newest, sequence)
        held.count += 1
        self._plan(audience, held, now + PAUSES_S[0])

    def take(self, now: float, most: int) -> list[tuple[Audience, Beacon]]:
        """Up to `most` beacons whose time has come."""
        taken: list[tuple[Audience, Beacon]] = []
        while self._due and self._due[0][0] <= now and len(taken) < most:
            due, audience = heappop(self._due)
            held = self._audiences[audience]
            if held.due != due:
                continue  # another time was planned since
            taken.append((audience, held.say()))
            held.due = None
            if held.said < len(PAUSES_S):
                held.due = now + PAUSES_S[held.said]
                heappush(self._due, (held.due, audience))
        return taken

    def next_deadline(self) -> float | None:
        return self._due[0][0] if self._due else None

    def _plan(self, audience: Audience, held: "_Audience", due: float) -> None:
        held.said = 0
        if held.due is None or due < held.due:
            held.due = due
            heappush(self._due, (due, audience))


class _Audience(msgspec.Struct, gc=False):
    """count: messages since `after`. beacon: the last one. said: how often. due: when to say it again, if ever."""

    after: int = 0
    newest: int = 0
    count: int = 0
    said: int = 0
    beacon: Beacon | None = None
    due: float | None = None

    def say(self) -> Beacon:
        if self.beacon is None or self.count:
            self.beacon = Beacon(after=self.after, newest=self.newest, count=self.count)
            self.after, self.count = self.newest, 0
        self.said += 1
        return self.beacon

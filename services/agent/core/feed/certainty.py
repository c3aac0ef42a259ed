"""How far each audience is known to be complete, and which of them have to be read again.

A subscription takes a while to spread among the servers, and the server that answers a reading may be behind the
others: what is written meanwhile is neither read nor heard. Nothing that comes later tells of it, save for the beacons
that whoever writes the feed sends after each change (shared/events/documents.py, Beacon).
"""

from heapq import nlargest

from shared.backoff import delay_s
from shared.events.documents import Beacon

PATIENCE_S = 0.5
"""What a beacon speaks of may still be on its way."""

MOST_TRIES = 9
"""More than a minute of readings. No server is behind for so long: what stood there last was a deletion, and has
expired."""

MOST_HEARD = 32_768
"""Sequences kept of each audience. Who knows of fewer than there were reads again."""


class Certainty:
    """Takes what was read, what was heard and what beacons say. All times are seconds on one clock.

    Everything up to `position(audience)` is here. What was heard beyond says nothing of what lies between, until a
    beacon says how many there are.
    """

    def __init__(self) -> None:
        self._audiences: dict[str, _Audience] = {}

    def position(self, audience: str) -> int:
        """0 for an audience that was never read."""
        return self._audiences[audience].position if audience in self._audiences else 0

    def took(self, audience: str, sequence: int) -> None:
        """A message came, live or in a reading."""
        self._of(audience).take(sequence)

    def begin(self, audience: str) -> None:
        """It is going to be read from its first message on, perhaps of a stream made anew."""
        held = self._of(audience)
        held.position, held.heard = 0, set()

    def read(self, audience: str, last: int) -> None:
        """A reading ended with sequence `last`."""
        held = self._of(audience)
        held.position = max(held.position, last)
        held.judge()

    def told(self, audience: str, beacon: Beacon, now: float, chance: float) -> None:
        """A beacon came. chance: in [0, 1), so that not all hosts read at once."""
        held = self._of(audience)
        if held.beacon is None or held.beacon.newest != beacon.newest:
            held.tries = 0
        held.beacon = beacon
        if not held.judge() and held.due is None:
            held.due = now + PATIENCE_S * (1 + chance)

    def drop(self, audience: str) -> None:
        self._audiences.pop(audience, None)

    def take_due(self, now: float, chance: float) -> frozenset[str]:
        """Audiences to read again now. Each comes again, ever more seldom, until it is known to be complete."""
        return frozenset(audience for audience, held in self._audiences.items() if held.is_due(now, chance))

    def next_deadline(self) -> float | None:
        return min((held.due for held in self._audiences.values() if held.due is not None), default=None)

    def _of(self, audience: str) -> "_Audience":
        return self._audiences.setdefault(audience, _Audience())


class _Audience:
    """position: all up to there is here. heard: sequences that came. beacon: the last one. due: when to read again."""

    def __init__(self) -> None:
        self.position = 0
        self.heard: set[int] = set()
        self.beacon: Beacon | None = None
        self.due: float | None = None
        self.tries = 0

    def take(self, sequence: int) -> None:
        self.heard.add(sequence)
        if len(self.heard) > 2 * MOST_HEARD:
            self.heard = set(nlargest(MOST_HEARD, self.heard))

    def judge(self) -> bool:
        """Whether all that the last beacon speaks of is here."""
        beacon = self.beacon
        if beacon is None:
            return True
        if self.position < beacon.newest and not self._heard_all(beacon):
            return False
        self.position = max(self.position, beacon.newest)
        self.heard = {sequence for sequence in self.heard if sequence > beacon.newest}
        self.due = None
        return True

    def is_due(self, now: float, chance: float) -> bool:
        if self.due is None or self.due > now or self.judge():
            return False
        self.tries += 1
        if self.tries > MOST_TRIES:
            assert self.beacon is not None
            self.position, self.due = self.beacon.newest, None
            return False
        self.due = now + delay_s(self.tries, chance)
        return True

    def _heard_all(self, beacon: Beacon) -> bool:
        between = sum(beacon.after < sequence <= beacon.newest for sequence in self.heard)
        return self.position >= beacon.after and between >= beacon.count

"""How far an audience is known to be complete, and when it has to be read again.

A subscription takes a while to spread among the servers, and the server that answers a reading may be behind the
others: what is written meanwhile is neither read nor heard. Nothing that comes later tells of it, save for the beacons
that whoever writes the feed sends after each change (shared/events/documents.py, Beacon).
"""

from heapq import nlargest

from shared.backoff import delay_s
from shared.events.documents import Beacon

PATIENCE_S = 0.5
"""Messages that a beacon counts may still be on their way for this long."""

MOST_TRIES = 9
"""More than a minute of readings. No server is behind for so long: the missing message was a deletion, and has
expired."""

MOST_HEARD = 32_768
"""Sequences kept of an audience. A host that knows of fewer than there were reads again."""


class Certainty:
    """Compare the messages read and heard of one audience with its beacons. All times are seconds on one clock.

    position: every message up to this sequence is here, 0 when the audience was never read. A later message
    does not prove that those between are here; a beacon, which counts them, does. due: when to read the audience
    again, None while there is no doubt.
    """

    def __init__(self) -> None:
        self.position = 0
        self.due: float | None = None
        self._heard: set[int] = set()
        self._beacon: Beacon | None = None
        self._tries = 0

    def took(self, sequence: int) -> None:
        """A message came, live or in a reading."""
        self._heard.add(sequence)
        if len(self._heard) > 2 * MOST_HEARD:
            self._heard = set(nlargest(MOST_HEARD, self._heard))

    def begin(self) -> None:
        """The audience is read from its first message on, perhaps of a stream made anew."""
        self.position, self._heard = 0, set()

    def read(self, last: int) -> None:
        """A reading ended with sequence `last`."""
        self.position = max(self.position, last)
        self._judge()

    def told(self, beacon: Beacon, now: float, chance: float) -> None:
        """A beacon came. chance: in [0, 1), so that not all hosts read at once."""
        if self._beacon is None or self._beacon.newest != beacon.newest:
            self._tries = 0
        self._beacon = beacon
        if not self._judge() and self.due is None:
            self.due = now + PATIENCE_S * (1 + chance)

    def take_due(self, now: float, chance: float) -> bool:
        """Whether to read the audience now. It is due again, ever more seldom, until it is known to be complete."""
        if self.due is None or self.due > now or self._judge():
            return False
        self._tries += 1
        if self._tries > MOST_TRIES:
            assert self._beacon is not None
            self.position, self.due = self._beacon.newest, None
            return False
        self.due = now + delay_s(self._tries, chance)
        return True

    def _judge(self) -> bool:
        """Whether all messages that the last beacon counts are here."""
        beacon = self._beacon
        if beacon is None:
            return True
        if self.position < beacon.newest and not self._heard_all(beacon):
            return False
        self.position = max(self.position, beacon.newest)
        self._heard = {sequence for sequence in self._heard if sequence > beacon.newest}
        self.due = None
        return True

    def _heard_all(self, beacon: Beacon) -> bool:
        between = sum(beacon.after < sequence <= beacon.newest for sequence in self._heard)
        return self.position >= beacon.after and between >= beacon.count

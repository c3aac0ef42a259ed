"""Whether a stream that is read on is the one that was read before.

A bus that was restored from an older backup, or that lost the end of a stream, gives the same sequences to other
messages. A host that reads on from its position misses the messages written anew before it, and keeps deleted ones.
"""

from collections.abc import Iterable
from heapq import nlargest

from services.agent.core.documents import Held
from shared.events.documents import FeedMessage
from shared.events.subjects import FeedKey

MOST = 4
"""Messages that are read a second time. Some may be replaced meanwhile; if all are, everything is read again."""


class Landmarks:
    """The newest messages held of one audience. Tell `saw` what comes while the audience is read from `start` on.

    position: all up to there is here. start: 0 when nothing is held of what came up to there.
    """

    def __init__(self, held: Iterable[Held], position: int) -> None:
        all_held = list(held)
        newest = nlargest(MOST, (one for one in all_held if one.sequence <= position), key=lambda one: one.sequence)
        self._position = position
        self._expected = newest
        # The server that answers may be behind the one that sent these.
        self._heard = [one for one in all_held if one.sequence > position]
        self._seen: dict[FeedKey, tuple[int, FeedMessage]] = {}
        self._last = 0
        self._position_seen = False
        self.start = newest[-1].sequence if newest else 0

    def saw(self, key: FeedKey, sequence: int, message: FeedMessage) -> None:
        self._last = max(self._last, sequence)
        self._position_seen |= sequence == self._position
        if key not in self._seen or sequence > self._seen[key][0]:
            self._seen[key] = sequence, message

    @property
    def found(self) -> bool:
        """Whether all messages from the first landmark on came from the stream that the landmarks are of.

        Each has to stand there or to be replaced by what came later, one has to stand, and the position to be reached.
        """
        expected = [*self._expected, *(one for one in self._heard if one.sequence < self._last)]
        seen = [self._seen.get(one.key) for one in expected]
        stands = [now == (one.sequence, one.message) for one, now in zip(expected, seen, strict=True)]
        replaced = [now is not None and now[0] > one.sequence for one, now in zip(expected, seen, strict=True)]
        reached = self._position_seen or any(one.sequence >= self._position for one in expected)
        return reached and any(stands) and all(a or b for a, b in zip(stands, replaced, strict=True))

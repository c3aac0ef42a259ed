"""One audience as a host reads it: from where its readings begin, what they prove, and what is known after them.

A reading takes one of three ways. Normally it goes on from where the last one ended, and proves by landmarks that the
stream is the same. A stream that proves to be another is read beside what is held: what that stream lacks may only have
been lost there. The whole is read as a snapshot, which replaces what is held.
"""

from enum import Enum

from services.agent.core.documents import FeedView
from services.agent.core.feed.certainty import Certainty
from services.agent.core.feed.landmarks import Landmarks
from shared.events.documents import TOMBSTONE_TTL_S, FeedMessage
from shared.events.subjects import FeedKey

RESUMABLE_S = TOMBSTONE_TTL_S / 2
"""After a longer absence the stream may have dropped deletions, so the host reads the whole audience anew."""
WITHDRAW_AFTER_S = 30.0
"""How long documents that another stream lacks are kept: a new owner of a large feed has written them again by then."""


class State(Enum):
    AWAY = "no session follows it; what is held of it is of one moment"
    CUT_OFF = "no session follows it; what is held of it is a mixture, for a reading did not end"
    DUE = "followed, and waits to be read"
    READING = "followed, and is being read"
    OVERTAKEN = "followed, and is being read, but a message was missed meanwhile"
    LIVE = "followed, and was read"


class Event(Enum):
    FOLLOWED = "the session subscribes to it"
    BEGUN = "a reading of it begins"
    ENDED = "the reading has brought everything"
    MISSED = "a message of it may have been missed"
    LOST = "the session is over"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.AWAY, Event.FOLLOWED): State.DUE,
    (State.CUT_OFF, Event.FOLLOWED): State.DUE,
    (State.DUE, Event.BEGUN): State.READING,
    (State.DUE, Event.MISSED): State.DUE,
    (State.DUE, Event.LOST): State.CUT_OFF,
    (State.READING, Event.ENDED): State.LIVE,
    (State.READING, Event.MISSED): State.OVERTAKEN,
    (State.READING, Event.LOST): State.CUT_OFF,
    (State.OVERTAKEN, Event.ENDED): State.DUE,
    (State.OVERTAKEN, Event.MISSED): State.OVERTAKEN,
    (State.OVERTAKEN, Event.LOST): State.CUT_OFF,
    (State.LIVE, Event.MISSED): State.DUE,
    (State.LIVE, Event.LOST): State.AWAY,
}

FOLLOWED = frozenset({State.DUE, State.READING, State.OVERTAKEN, State.LIVE})
BEING_READ = frozenset({State.READING, State.OVERTAKEN})
MIXED = frozenset({State.CUT_OFF, State.DUE, State.READING, State.OVERTAKEN})
"""Between two moments: until the audience is read the picture is a mixture of before and after."""


class _Way(Enum):
    ON = "from where the last reading ended"
    BESIDE = "from the first message, and what does not come is kept"
    WHOLE = "from the first message, and what does not come is gone"


class Audience:
    """The state of one audience. All times are seconds on one clock.

    doubted_until: until then the documents that the stream lacks are kept, None while it lacks none.
    """

    def __init__(self, name: str, view: FeedView) -> None:
        self.name = name
        self.state = State.AWAY
        self.certainty = Certainty()
        self.doubted_until: float | None = None
        self._view = view
        self._way = _Way.WHOLE
        self._landmarks: Landmarks | None = None
        self._complete_at: float | None = None

    def on(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
        if event is Event.LOST:
            self._landmarks = None

    def begin(self, now: float, chance: float) -> int:
        """Begin a reading; give the sequence to read from, 0 for the first message there is.

        chance: in [0, 1), so that not all hosts withdraw at once what a stream lacks.
        """
        self.on(Event.BEGUN)
        self._landmarks = None
        if self._has_to_be_read_whole(now):
            self._way = _Way.WHOLE
            self._view.begin_snapshot(self.name)
            self.certainty.begin()
            return 0
        landmarks = Landmarks(self._view.held(self.name), self.certainty.position)
        if not landmarks.start:
            self.begin_beside(now, chance)
            return 0
        self._way, self._landmarks = _Way.ON, landmarks
        return landmarks.start

    def begin_beside(self, now: float, chance: float) -> None:
        """Go on with a reading from the first message, and keep what does not come for as long as it may be written."""
        self._way, self._landmarks = _Way.BESIDE, None
        if self.doubted_until is None:
            self.doubted_until = now + WITHDRAW_AFTER_S * (1 + chance / 2)

    def took(self, key: FeedKey, sequence: int, message: FeedMessage | None) -> bool:
        """Whether the picture changed by a message that came, live or in a reading. None: it cannot be decoded."""
        self.certainty.took(sequence)
        if message is None:
            return False
        if self._landmarks is not None:
            self._landmarks.saw(key, sequence, message)
        return self._view.apply(key, sequence, message)

    def is_another_stream(self, last: int) -> bool:
        """Whether the reading, whose last message had sequence `last` (0: none came), has to begin again beside."""
        return self._landmarks is not None and not (last and self._landmarks.found)

    def end(self, last: int, now: float) -> bool:
        """End the reading, whose last message had sequence `last`; give whether the picture changed by that."""
        changed = False
        if self._way is _Way.WHOLE:
            self.doubted_until = None
            changed = self._view.end_snapshot(self.name)
        elif self._way is _Way.BESIDE:
            self.certainty.begin()  # what was heard of the former stream says nothing of this one
        self._landmarks = None
        self.certainty.read(last)
        self._complete_at = now
        self.on(Event.ENDED)
        return changed

    def proved(self, at: float) -> None:
        """The bus answered: every message that it sent until then has arrived."""
        if self.state is State.LIVE and self._complete_at is not None:
            self._complete_at = max(self._complete_at, at)

    def take_due(self, now: float, chance: float) -> bool:
        """Whether to read the audience again now, because a beacon or another stream left a doubt."""
        return self.certainty.take_due(now, chance) or self._is_withdrawn(now)

    def next_deadline(self) -> float | None:
        return min((due for due in (self.certainty.due, self.doubted_until) if due is not None), default=None)

    def _has_to_be_read_whole(self, now: float) -> bool:
        if self._complete_at is None or now - self._complete_at > RESUMABLE_S:
            return True
        return self._is_withdrawn(now) if self.doubted_until is not None else not self.certainty.position

    def _is_withdrawn(self, now: float) -> bool:
        """Whether the documents that the stream lacks count as deleted."""
        return self.doubted_until is not None and self.doubted_until <= now

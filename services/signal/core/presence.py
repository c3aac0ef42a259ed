"""Who is connected: heartbeats and the facts of others become edges."""

from enum import Enum
from typing import TypeAlias

import msgspec

from shared.events.facts import SessionFact
from shared.events.signals import Beat
from shared.events.subjects import BeatKey


class PeerHeard(msgspec.Struct, frozen=True, kw_only=True):
    """A session began, or spoke again after a silence. at: seconds on the tracker's clock."""

    peer: BeatKey
    epoch: int
    at: float


class PeerSilent(msgspec.Struct, frozen=True, kw_only=True):
    """No heartbeat for longer than allowed, or the last one said goodbye. at: when the peer was last heard."""

    peer: BeatKey
    epoch: int
    at: float


PresenceEvent: TypeAlias = PeerHeard | PeerSilent


def delta(event: PresenceEvent, known: SessionFact | None, *, since: float) -> SessionFact | None:
    """The fact to write for an edge; None when `known`, the newest fact, says as much or is of a newer session.

    since: the edge's `at` in unix seconds.
    """
    connected = isinstance(event, PeerHeard)
    if known is not None and (known.epoch, known.connected) == (event.epoch, connected):
        return None
    if known is not None and known.epoch > event.epoch:
        return None
    return SessionFact(peer_id=event.peer.peer, epoch=event.epoch, connected=connected, since=since)


class State(Enum):
    HEARD = "heard"
    SILENT = "silent"
    LEFT = "left"


class Sign(Enum):
    BEAT = "beat"
    GOODBYE = "goodbye"
    TIMEOUT = "timeout"


NEXT: dict[tuple[State, Sign], State] = {
    (State.HEARD, Sign.BEAT): State.HEARD,
    (State.HEARD, Sign.GOODBYE): State.LEFT,
    (State.HEARD, Sign.TIMEOUT): State.SILENT,
    (State.SILENT, Sign.BEAT): State.HEARD,
    (State.SILENT, Sign.GOODBYE): State.LEFT,
    (State.LEFT, Sign.BEAT): State.LEFT,
    (State.LEFT, Sign.GOODBYE): State.LEFT,
}
"""Within one epoch. Only a newer epoch leads out of LEFT: a beat that overtook the goodbye revives nobody."""


class Session(msgspec.Struct, frozen=True):
    """One peer's newest session and when it was last heard."""

    epoch: int
    state: State
    heard_at: float


class PresenceTracker:
    """Turn heartbeats into PeerHeard and PeerSilent edges.

    max_silence_s: seconds without a heartbeat before a peer counts as silent.
    All times are seconds on one monotonic clock; `now` never goes backwards. Epochs order the sessions of one peer:
    an older one changes nothing.
    """

    def __init__(self, max_silence_s: float) -> None:
        self._max_silence_s = max_silence_s
        self._heard: dict[BeatKey, Session] = {}
        """Those in state HEARD, the longest unheard first; every beat moves its peer to the end."""
        self._quiet: dict[BeatKey, Session] = {}
        self._events: list[PresenceEvent] = []

    def feed(self, peer: BeatKey, beat: Beat, now: float) -> None:
        """A heartbeat arrived."""
        was = self.session(peer)
        if was is not None and beat.epoch < was.epoch:
            return
        sign = Sign.GOODBYE if beat.leaving else Sign.BEAT
        same = was is not None and beat.epoch == was.epoch
        before = was.state if was is not None and same else State.SILENT
        after = NEXT[before, sign]
        self._put(peer, Session(beat.epoch, after, now))
        if after is not before or not same:
            edge = PeerHeard if after is State.HEARD else PeerSilent
            self._events.append(edge(peer=peer, epoch=beat.epoch, at=now))

    def adopt(self, peer: BeatKey, epoch: int, *, connected: bool, now: float) -> None:
        """What the facts say, written by another replica or before this one started. Makes no edge.

        A peer that is connected by the facts has max_silence_s from now to be heard.
        """
        was, told = self.session(peer), State.HEARD if connected else State.SILENT
        if was is not None and epoch < was.epoch:
            return
        if was is not None and epoch == was.epoch and (was.state is State.LEFT or was.state is told):
            return
        self._put(peer, Session(epoch, told, now))

    def advance(self, now: float) -> None:
        """Time passed: whoever is due becomes silent."""
        while self._heard:
            peer, session = next(iter(self._heard.items()))
            if session.heard_at + self._max_silence_s > now:
                return
            after = NEXT[session.state, Sign.TIMEOUT]
            self._put(peer, Session(session.epoch, after, session.heard_at))
            self._events.append(PeerSilent(peer=peer, epoch=session.epoch, at=session.heard_at))

    def reset(self, now: float) -> None:
        """Count every peer's silence from now: no beat could arrive before (the bus or the process stood still)."""
        self._heard = {peer: Session(was.epoch, was.state, now) for peer, was in self._heard.items()}

    def next_deadline(self) -> float | None:
        """When `advance` has something to say at the earliest; None while nobody is heard."""
        for session in self._heard.values():
            return session.heard_at + self._max_silence_s
        return None

    def take(self) -> list[PresenceEvent]:
        """The edges since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def session(self, peer: BeatKey) -> Session | None:
        return self._heard.get(peer) or self._quiet.get(peer)

    def stands(self, edge: PresenceEvent) -> bool:
        """Whether an edge of before is still what is known of its peer."""
        now = self.session(edge.peer)
        heard = isinstance(edge, PeerHeard)
        return now is not None and (now.epoch, now.state is State.HEARD) == (edge.epoch, heard)

    @property
    def connected(self) -> int:
        """How many peers are heard."""
        return len(self._heard)

    def heard(self) -> list[PresenceEvent]:
        """One PeerHeard for each peer that is connected now: what the facts should hold at least."""
        return [PeerHeard(peer=peer, epoch=was.epoch, at=was.heard_at) for peer, was in self._heard.items()]

    def _put(self, peer: BeatKey, session: Session) -> None:
        self._heard.pop(peer, None)
        self._quiet.pop(peer, None)
        (self._heard if session.state is State.HEARD else self._quiet)[peer] = session

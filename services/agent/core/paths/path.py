"""How one peer is reached: which endpoint WireGuard is given, for how long it is tried, and when the peer is connected.

WireGuard itself repeats a handshake only every 5 s, whatever endpoint it is given meanwhile. So each try begins with a
reset: the peer is removed and added again, which sends a handshake at once.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Literal, TypeAlias

from services.agent.core.kernel import PeerStats

TRY_S = 2.0
"""A handshake takes one round trip; whoever did not answer in this time is not there."""
ROAMING_S = 0.5
"""The side with the lesser key lets the other begin, so that two handshakes do not cross (connectivity §8.7, 6)."""
APART_S = 0.05
"""Between two tries: WireGuard drops a peer's handshake that comes within 20 ms of the one before."""
REST_S = 2.0
REST_LIMIT_S = 30.0
SILENCE_S = 60.0
"""A living peer sends at least its keepalive every 25 s."""
SESSION_S = 195.0
"""WireGuard refuses a session older than 180 s and renews a used one before."""


class State(Enum):
    IDLE = "idle"
    WAITING = "waiting"
    TRYING = "trying"
    RESTING = "resting"
    CONNECTED = "connected"


class Event(Enum):
    INVITED = "endpoints came, and it is on us to begin"
    AWAITED = "endpoints came, and the other side begins"
    OVERDUE = "the time of the state is over"
    EXHAUSTED = "every endpoint was tried"
    HANDSHAKE = "WireGuard has a session"
    LOST = "silence, or no session any more"
    STRANDED = "there is no endpoint to try"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.INVITED): State.TRYING,
    (State.IDLE, Event.AWAITED): State.WAITING,
    (State.IDLE, Event.HANDSHAKE): State.CONNECTED,
    (State.IDLE, Event.STRANDED): State.IDLE,
    (State.WAITING, Event.AWAITED): State.WAITING,
    (State.WAITING, Event.OVERDUE): State.TRYING,
    (State.WAITING, Event.HANDSHAKE): State.CONNECTED,
    (State.WAITING, Event.STRANDED): State.IDLE,
    (State.TRYING, Event.INVITED): State.TRYING,
    (State.TRYING, Event.AWAITED): State.WAITING,
    (State.TRYING, Event.OVERDUE): State.TRYING,
    (State.TRYING, Event.EXHAUSTED): State.RESTING,
    (State.TRYING, Event.HANDSHAKE): State.CONNECTED,
    (State.TRYING, Event.STRANDED): State.IDLE,
    (State.RESTING, Event.INVITED): State.TRYING,
    (State.RESTING, Event.AWAITED): State.WAITING,
    (State.RESTING, Event.OVERDUE): State.TRYING,
    (State.RESTING, Event.HANDSHAKE): State.CONNECTED,
    (State.RESTING, Event.STRANDED): State.IDLE,
    (State.CONNECTED, Event.INVITED): State.CONNECTED,
    (State.CONNECTED, Event.AWAITED): State.CONNECTED,
    (State.CONNECTED, Event.HANDSHAKE): State.CONNECTED,
    (State.CONNECTED, Event.LOST): State.TRYING,
    (State.CONNECTED, Event.STRANDED): State.IDLE,
}

Word: TypeAlias = Literal["Idle", "Connecting", "Connected"]

WORDS: dict[State, Word] = {
    State.IDLE: "Idle",
    State.WAITING: "Connecting",
    State.TRYING: "Connecting",
    State.RESTING: "Connecting",
    State.CONNECTED: "Connected",
}
"""What people see (reference connectivity §5.1); Connected here also means that WireGuard has a session."""


class Path:
    """One peer's endpoints, tried in order until WireGuard has a session.

    controller: this side begins. All times but `wall` are seconds on one monotonic clock.
    """

    def __init__(self, *, controller: bool, now: float) -> None:
        self.state = State.IDLE
        self.changed_at = now
        """When the word people see last changed."""
        self.stats: PeerStats | None = None
        self._controller = controller
        self._endpoints: tuple[str, ...] = ()
        self._index = 0
        self._rests = 0
        self._tried_at = -APART_S
        self._endpoint = ""
        self._endpoint_before = ""
        self._handshake_before: float | None = None
        self._handshake_at = now
        self._heard_at = now
        self._deadline: float | None = None
        self._reset = False
        self._left: frozenset[str] = frozenset()
        self._follows = ""

    @property
    def endpoint(self) -> str:
        """What to give to WireGuard, "" = leave it: once it has a session it follows the peer by itself.

        A peer that left the endpoint it has is followed on its word.
        """
        return self._endpoint if self.state is State.TRYING else self._follows

    @property
    def is_hopeful(self) -> bool:
        """Whether a session may come any moment: the endpoints are new and not all of them were tried."""
        return self.state in (State.WAITING, State.TRYING) and not self._rests

    def offer(self, endpoints: tuple[str, ...], now: float) -> None:
        """The peer may be reached at these endpoints, best first; whatever was tried before starts over."""
        self._endpoints, self._index, self._rests = endpoints, 0, 0
        just_tried = self.state is State.TRYING and now < self._tried_at + APART_S
        if endpoints and self._controller and just_tried:
            self._index, self._deadline = -1, self._tried_at + APART_S
        elif endpoints:
            self._on(Event.INVITED if self._controller else Event.AWAITED, now)
        elif self.state is not State.CONNECTED:
            self._on(Event.STRANDED, now)

    def leave(self, endpoints: Iterable[str]) -> None:
        """The peer, which has a session, is no longer to be found at these endpoints, but at those offered."""
        self._left = frozenset(endpoints)

    def cut_off(self, now: float) -> None:
        """Packets no longer reach the endpoint that the session has: begin anew."""
        if self.state is State.CONNECTED:
            self._lose(now)

    def observe(self, stats: PeerStats | None, now: float, wall: float) -> None:
        """What the device says of the peer, None when it does not have it. wall: unix seconds.

        Call it with fresh stats before `advance`, else a session that just came is reset.
        """
        former, self.stats = self.stats, stats
        is_left = stats is not None and stats.endpoint in self._left and self.state is State.CONNECTED
        self._follows = self._endpoints[0] if is_left and self._endpoints else ""
        if not self._follows:
            self._left = frozenset()
        if self.state is State.CONNECTED:
            self._listen(former, stats, now)
        elif stats is None or not stats.last_handshake:
            self._follow(stats, now)
        elif self._is_new(stats.last_handshake, wall):
            self._handshake_at = self._heard_at = now
            self._on(Event.HANDSHAKE, now)
        else:
            self._follow(stats, now)

    def advance(self, now: float) -> None:
        if self._deadline is None or now < self._deadline:
            return
        if self.state is State.CONNECTED:
            self._lose(now)
        elif self.state is State.TRYING and self._index + 1 >= len(self._endpoints):
            self._on(Event.EXHAUSTED, now)
        else:
            self._index = self._index + 1 if self.state is State.TRYING else 0
            self._on(Event.OVERDUE, now)

    def next_deadline(self) -> float | None:
        return self._deadline

    def take_reset(self) -> bool:
        """Whether the peer is to be removed and added again, with `endpoint`."""
        wanted, self._reset = self._reset, False
        return wanted

    def _on(self, event: Event, now: float) -> None:
        before, self.state = self.state, TRANSITIONS[self.state, event]
        if WORDS[before] != WORDS[self.state]:
            self.changed_at = now
        match self.state:
            case State.IDLE:
                self._deadline = None
            case State.WAITING:
                self._deadline = now + ROAMING_S
            case State.TRYING:
                self._try(now)
            case State.RESTING:
                self._deadline = now + min(REST_LIMIT_S, REST_S * 2 ** min(self._rests, 10))
                self._rests += 1
            case State.CONNECTED:
                self._deadline = min(self._heard_at + SILENCE_S, self._handshake_at + SESSION_S)

    def _try(self, now: float) -> None:
        self._endpoint, self._tried_at = self._endpoints[self._index], now
        self._endpoint_before = self.stats.endpoint if self.stats else ""
        # Taken before the endpoint is programmed: a handshake that is back at once must not pass for an old one.
        self._handshake_before = self.stats.last_handshake if self.stats else None
        self._deadline = now + TRY_S
        self._reset = True

    def _listen(self, former: PeerStats | None, stats: PeerStats | None, now: float) -> None:
        if stats is None or not stats.last_handshake:
            self._lose(now)
            return
        if former is None or stats.rx_bytes != former.rx_bytes:
            self._heard_at = now
        if former is None or stats.last_handshake != former.last_handshake:
            self._handshake_at = self._heard_at = now
        self._deadline = min(self._heard_at + SILENCE_S, self._handshake_at + SESSION_S)

    def _lose(self, now: float) -> None:
        self._index = self._rests = 0
        if self._endpoints:
            self._on(Event.LOST, now)
        else:
            self._on(Event.STRANDED, now)

    def _follow(self, stats: PeerStats | None, now: float) -> None:
        """The peer began from an endpoint nobody told us: leave it to WireGuard, which answers there."""
        known = ("", self._endpoint, self._endpoint_before)
        if self.state is State.TRYING and stats is not None and stats.endpoint not in known:
            self._endpoint, self._deadline = stats.endpoint, now + TRY_S

    def _is_new(self, handshake: float, wall: float) -> bool:
        if self._handshake_before is None:
            return wall - handshake < SESSION_S
        return handshake != self._handshake_before

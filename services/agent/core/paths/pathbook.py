"""All peers' paths together: whom to tell our endpoints, whose tunnel to reset, which endpoints to program.

Sans-IO. The shell hands in what it hears, asks `next_deadline` when to come back and takes what is to be done:

    book.set_peers(...), book.set_local(...)                 when documents or addresses changed
    book.receive(peer, candidates, now)                      when a signal came
    book.observe(await device.stats(), now, wall)            every `stats_interval_s`, and before each `advance`
    book.advance(now); for action in book.take(): ...        when a deadline passed, and after any of the above
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from services.agent.core.kernel import PeerStats
from services.agent.core.paths.candidates import ranked, split
from services.agent.core.paths.introduction import Introduction
from services.agent.core.paths.path import WORDS, Path, State, Word
from shared.events.signals import Candidates

EAGER_S = 0.1
LAZY_S = 1.0
FORMER_SESSIONS = 8
ABSENT_S = 60.0
"""Whoever sends a signal after so long is back; two hosts in vain ask each other more often than that."""


LAST_RUN = "0000000000"
"""The signal session of endpoints that were kept on disk; a peer's own session replaces it."""


class Send(msgspec.Struct, frozen=True, tag=True):
    """Send our endpoints to a peer, as Candidates with the book's generation."""

    peer_id: str
    answer_wanted: bool


class Reset(msgspec.Struct, frozen=True, tag=True):
    """Remove the peer from the device and add it anew with its endpoint, see order.plan. Nothing when it is absent."""

    peer_id: str
    public_key: str


Action: TypeAlias = Send | Reset


class PathStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What people see of a path. changed_at: monotonic seconds; last_handshake: unix seconds, 0.0 = never."""

    word: Word
    endpoint: str
    last_handshake: float
    rx_bytes: int
    tx_bytes: int
    changed_at: float


class _Peer:
    def __init__(self, key: str, path: Path, introduction: Introduction) -> None:
        self.key = key
        self.path = path
        self.introduction = introduction
        self.heard: Candidates | None = None
        self.heard_at = 0.0
        self.is_untold = False
        self.former_sessions: deque[str] = deque(maxlen=FORMER_SESSIONS)


class PathBook:
    """The paths to every peer this host may reach. Peers are named by peer id, on the device by public key.

    public_key: this host's. generation: of our own endpoints; grows when they change.
    """

    def __init__(self, public_key: str) -> None:
        self.generation = 0
        self.local_endpoints: tuple[str, ...] = ()
        self._public_key = public_key
        self._addresses: tuple[str, ...] = ()
        self._overlay: tuple[str, ...] = ()
        self._peers: dict[str, _Peer] = {}

    def set_peers(self, keys: Mapping[str, str], now: float) -> None:
        """The peers there are, peer id → public key. New ones are told our endpoints and asked for theirs."""
        for peer_id in [known for known, peer in self._peers.items() if keys.get(known) != peer.key]:
            del self._peers[peer_id]
        for peer_id, key in keys.items():
            if peer_id not in self._peers:
                # One side begins, or two handshakes would cross: the one with the greater key.
                path = Path(controller=self._public_key > key, now=now)
                self._peers[peer_id] = _Peer(key, path, Introduction(now))

    def set_local(
        self, endpoints: Iterable[str], now: float, *, addresses: Iterable[str] = (), overlay: Iterable[str] = ()
    ) -> None:
        """Where this host may be reached, see candidates.local_endpoints; all peers are told when it changed.

        addresses: of this host, with prefix length. overlay: its prefixes.
        """
        self._addresses, self._overlay = tuple(addresses), tuple(overlay)
        if tuple(endpoints) != self.local_endpoints:
            self.local_endpoints = tuple(endpoints)
            self.generation += 1
            for peer in self._peers.values():
                peer.introduction.tell(now)
                self._leave_family(peer, now)

    def keys(self) -> dict[str, str]:
        """Peer id → public key."""
        return {peer_id: peer.key for peer_id, peer in self._peers.items()}

    def recall(self, endpoints: Mapping[str, str], stats: Mapping[str, PeerStats], now: float, wall: float) -> None:
        """Take up where the last run ended: sessions that still stand, then endpoints that worked, by peer id.

        stats: of the device, which may have outlived the last run. wall: unix seconds.
        """
        self.observe(stats, now, wall)
        for peer_id, endpoint in endpoints.items():
            heard = Candidates(session=LAST_RUN, generation=0, endpoints=(endpoint,), answer_wanted=False, sent_at=wall)
            self.receive(peer_id, heard, now)

    def receive(self, peer_id: str, candidates: Candidates, now: float) -> bool:
        """Whether the signal was of use: its sender is known, and it is not older than what is held.

        A generation orders the signals of one session; a session that was replaced never comes back.
        """
        peer = self._peers.get(peer_id)
        if peer is None or _is_older(candidates, peer):
            return False
        held, peer.heard = peer.heard, candidates
        is_back, peer.heard_at = now - peer.heard_at > ABSENT_S, now
        if held is not None and held.session != candidates.session:
            peer.former_sessions.append(held.session)
        peer.introduction.settled()
        if candidates.answer_wanted:
            peer.introduction.tell(now)
        known = held is not None and (held.session, held.endpoints) == (candidates.session, candidates.endpoints)
        if not known or peer.path.state is State.IDLE or (is_back and peer.path.state is State.RESTING):
            before = peer.path.state
            peer.path.offer(self._ranked(candidates.endpoints), now)
            if held is not None:
                peer.path.leave(set(held.endpoints) - set(candidates.endpoints))
            _react(peer, before, now)
        return True

    def unsent(self, peer_id: str) -> None:
        """A signal found no bus: what this host says of itself is due once there is one."""
        if peer_id in self._peers:
            self._peers[peer_id].is_untold = True

    def observe(self, stats: Mapping[str, PeerStats], now: float, wall: float) -> None:
        """What the device counts, public key → stats. wall: unix seconds."""
        for peer in self._peers.values():
            before = peer.path.state
            peer.path.observe(stats.get(peer.key), now, wall)
            _react(peer, before, now)

    def reconnected(self, now: float) -> None:
        """Signals may have been lost: ask again everyone who is not connected, and tell those who are to be told."""
        for peer in self._peers.values():
            if peer.is_untold:
                peer.introduction.tell(now)
                peer.is_untold = False
            if peer.path.state is not State.CONNECTED:
                peer.introduction.ask(now)

    def advance(self, now: float) -> None:
        for peer in self._peers.values():
            before = peer.path.state
            peer.path.advance(now)
            _react(peer, before, now)

    def take(self, now: float) -> tuple[Action, ...]:
        """What is to be done now, resets first: sending takes time. Each action is given once."""
        resets = [Reset(peer_id, peer.key) for peer_id, peer in self._peers.items() if peer.path.take_reset()]
        sends = [
            Send(peer_id, question)
            for peer_id, peer in self._peers.items()
            if (question := peer.introduction.take(now)) is not None
        ]
        return (*resets, *sends)

    def next_deadline(self) -> float | None:
        """When to `advance` and `take` next; None: not before something is heard."""
        deadlines = [
            deadline
            for peer in self._peers.values()
            for deadline in (peer.path.next_deadline(), peer.introduction.next_deadline())
            if deadline is not None
        ]
        return min(deadlines, default=None)

    @property
    def stats_interval_s(self) -> float:
        """How soon to read the device again: at once while a session may come any moment."""
        return EAGER_S if any(peer.path.is_hopeful for peer in self._peers.values()) else LAZY_S

    def endpoints(self) -> dict[str, str]:
        """Peer id → the endpoint to program; peers whose endpoint is left to WireGuard are absent."""
        return {peer_id: peer.path.endpoint for peer_id, peer in self._peers.items() if peer.path.endpoint}

    def connected(self) -> frozenset[str]:
        """Ids of the peers WireGuard has a session with."""
        return frozenset(peer_id for peer_id, peer in self._peers.items() if peer.path.state is State.CONNECTED)

    def remotes(self) -> frozenset[str]:
        """The addresses at which peers are connected now."""
        statuses = (_status(peer.path) for peer in self._peers.values() if peer.path.state is State.CONNECTED)
        return frozenset(parts[0] for status in statuses if (parts := split(status.endpoint)))

    def statuses(self) -> dict[str, PathStatus]:
        return {peer_id: _status(peer.path) for peer_id, peer in self._peers.items()}

    def _leave_family(self, peer: _Peer, now: float) -> None:
        """A session over a family in which this host has no address any more is begun anew over another."""
        at = split(_status(peer.path).endpoint)
        offered = self._ranked(peer.heard.endpoints) if peer.heard else ()
        families = {":" in address for address in self._addresses}
        if at and offered and (":" in at[0]) not in families and offered[0].startswith("[") in families:
            before = peer.path.state
            peer.path.offer(offered, now)
            peer.path.cut_off(now)
            _react(peer, before, now)

    def _ranked(self, endpoints: Iterable[str]) -> tuple[str, ...]:
        return ranked(endpoints, local=self._addresses, overlay=self._overlay, own=self.local_endpoints)


def _is_older(candidates: Candidates, peer: _Peer) -> bool:
    if candidates.session in peer.former_sessions:
        return True
    held = peer.heard
    return held is not None and held.session == candidates.session and held.generation > candidates.generation


def _react(peer: _Peer, before: State, now: float) -> None:
    """A path that fails asks for new endpoints; one that stands has no question."""
    after = peer.path.state
    if after is before:
        return
    if after is State.CONNECTED:
        peer.introduction.settled()
    elif after is State.RESTING or before is State.CONNECTED:
        peer.introduction.ask(now)


def _status(path: Path) -> PathStatus:
    stats = path.stats
    return PathStatus(
        word=WORDS[path.state],
        endpoint=stats.endpoint if stats else "",
        last_handshake=stats.last_handshake if stats else 0.0,
        rx_bytes=stats.rx_bytes if stats else 0,
        tx_bytes=stats.tx_bytes if stats else 0,
        changed_at=path.changed_at,
    )

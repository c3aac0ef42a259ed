"""Heartbeats in, session facts out: the clock and the bus around the presence tracker."""

import asyncio
import time
from collections.abc import Callable

import structlog

from services.signal.core.presence import PresenceEvent, PresenceTracker, delta
from services.signal.errors import RetryLater
from services.signal.ports import Ear, SessionWriter
from shared.bus.codec import decode
from shared.bus.lastvalues import QUIET_S, Superseded
from shared.bus.patience import Patience, Trouble
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import SessionFact
from shared.events.signals import Beat
from shared.events.subjects import BadSubject, BeatKey
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

TICK_S = 1.0
"""Longest time between two looks at the connection while somebody is heard."""

OVERSLEPT_S = 1.0
"""A wake-up that comes this much too late means that heartbeats wait unread as well."""

WRITES_AT_ONCE = 64

log = structlog.get_logger()

_connected = Gauge("whimbrel_signal_connected_peers", "Peers that are heard", registry=REGISTRY)
_written = Counter("whimbrel_signal_session_facts", "Session facts written", registry=REGISTRY)


class Sessions:
    """Keeps the session facts equal to what is heard. Reads them as shared.bus.lastvalues.Reader.

    The facts come first: nothing is written before the ones of the past are known.
    """

    def __init__(
        self,
        tracker: PresenceTracker,
        writer: SessionWriter,
        ear: Ear,
        undecodables: Undecodables,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tracker = tracker
        self._writer = writer
        self._ear = ear
        self._undecodables = undecodables
        self._clock = clock
        self._wall = wall
        _connected.set_function(lambda: tracker.connected)
        self._facts: dict[BeatKey, tuple[int, SessionFact | None]] = {}
        """The newest fact of each peer and its sequence; None for one that cannot be read."""
        self._facts_known = False
        self._pending: dict[BeatKey, PresenceEvent] = {}
        """The newest edge of each peer that is not in the facts yet."""
        self._trouble = Trouble("session facts wait", "session facts are written again", quiet_s=QUIET_S, clock=clock)
        self._something_to_write = asyncio.Event()
        self._deadline_moved = asyncio.Event()

    def begin(self) -> None:
        self._facts_known = False
        self._facts.clear()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_fact(subject)
            peer = BeatKey(key.account, key.id)
            if sequence <= self._sequence(peer):
                return
            self._facts[peer] = (sequence, None)
            fact = decode(subject, data, SessionFact)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.FACT_SESSIONS, problem)
            return
        self._facts[peer] = (sequence, fact)
        self._tracker.adopt(peer, fact.epoch, connected=fact.connected, now=self._clock())
        edge = self._pending.get(peer)
        if edge is not None and not self._tracker.stands(edge):
            del self._pending[peer]  # what another replica has seen since is newer
        self._deadline_moved.set()
        self._something_to_write.set()

    def caught_up(self) -> None:
        """From now on edges are written; peers that are heard and have no fact count as an edge."""
        self._facts_known = True
        for edge in self._tracker.heard():
            if self._facts.get(edge.peer, (0, None))[1] is None:
                self._pending.setdefault(edge.peer, edge)
        self._something_to_write.set()

    def beat(self, subject: str, data: bytes) -> None:
        """A heartbeat as it came from the bus; the subject says whose it is, and the bus lets nobody else use it."""
        try:
            peer = subjects.parse_beat(subject)
            beat = decode(subject, data, Beat)
            if beat.peer_id != peer.peer:
                raise Undecodable(subject, "a heartbeat for another peer")
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.BEAT_ALL, problem)
            return
        self._tracker.feed(peer, beat, self._clock())
        self._collect()

    async def watch(self) -> None:
        """Notice silence, for ever."""
        while True:
            end_if_cancelled()
            self.look(overslept=await self._sleep())

    def look(self, *, overslept: bool) -> None:
        """Notice who is silent now; nobody is while the service may have missed heartbeats itself."""
        if self._ear.deaf() or overslept:
            self._tracker.reset(self._clock())
        self._tracker.advance(self._clock())
        self._collect()

    async def _sleep(self) -> bool:
        """Until the tracker has something to say; gives whether it became much later than that."""
        began_at = self._clock()
        deadline = self._tracker.next_deadline()
        timeout = None if deadline is None else max(0.0, min(deadline - began_at, TICK_S))
        self._deadline_moved.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._deadline_moved.wait()
        except TimeoutError:
            assert timeout is not None
            return self._clock() - began_at > timeout + OVERSLEPT_S
        return False

    def _collect(self) -> None:
        edges = self._tracker.take()
        if not edges:
            return
        self._pending.update((edge.peer, edge) for edge in edges)
        self._deadline_moved.set()
        self._something_to_write.set()

    async def write(self) -> None:
        """Write the facts that edges call for, for ever."""
        patience = Patience(self._trouble)
        while True:
            end_if_cancelled()
            await self._something_to_write.wait()
            self._something_to_write.clear()
            while self._facts_known and self._pending:
                batch = list(self._pending.items())[:WRITES_AT_ONCE]
                if any(await asyncio.gather(*(self._write(peer, edge) for peer, edge in batch))):
                    patience.failures = 0
                    continue
                await patience.wait()
            if self._facts_known:
                patience.worked()

    async def _write(self, peer: BeatKey, edge: PresenceEvent) -> bool:
        """Whether the edge is settled; otherwise it stays pending."""
        after, known = self._facts.get(peer, (0, None))
        fact = delta(edge, known, since=self._wall() - (self._clock() - edge.at))
        if fact is not None:
            try:
                sequence = await self._writer.write(peer, fact, after=after)
            except Superseded:
                # What we know is old: something newer is on its way to us, or nothing is there any more.
                self._facts.pop(peer, None)
                return False
            except RetryLater as problem:
                self._trouble.tell(problem)
                return False
            _written.inc()
            if sequence > self._sequence(peer):
                self._facts[peer] = (sequence, fact)
            log.info("session", account=peer.account, peer=peer.peer, connected=fact.connected, epoch=fact.epoch)
        if self._pending.get(peer) is edge:
            del self._pending[peer]
        return True

    def _sequence(self, peer: BeatKey) -> int:
        return self._facts[peer][0] if peer in self._facts else 0

"""One connection to the bus: live documents and signals, what was missed, and when it is time for another one."""

import asyncio
import contextlib
import random
import time
from collections.abc import Collection
from enum import Enum
from typing import Literal, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.agent.bus import catchup
from services.agent.core.documents import FeedView
from services.agent.core.feed.certainty import Certainty
from services.agent.core.feed.landmarks import Landmarks
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import KINDS, TOMBSTONE_TTL_S, Beacon, FeedMessage, SelfDoc
from shared.events.subjects import BadSubject, SignalKey
from shared.tasks import end_if_cancelled

PROOF_EVERY_S = 10.0
PROOF_WITHIN_S = 10
SELF = KINDS[SelfDoc]
RESUMABLE_S = TOMBSTONE_TTL_S / 2
"""After a longer absence deletions may be gone from the stream, so that everything is read anew."""
CHECK_EVERY_S = 600.0
"""Servers that lose touch for a moment can swallow live copies unnoticed: what was written since the last reading is
read again. Well below RESUMABLE_S."""
CHECK_AFTER_ELECTION_S = 10.0
"""The same within so long after a change of the stream's leader, not by all hosts at once."""
READINGS_AT_ONCE = 8
WITHDRAW_AFTER_S = 30.0
"""What another stream lacks may only have been lost there: a new owner of a large feed writes it again by then."""

log = structlog.get_logger()


class Peer(msgspec.Struct, frozen=True):
    """Who reads."""

    account: str
    id: str

    @property
    def audience(self) -> str:
        return subjects.peer_audience(self.id)


class Listener(Protocol):
    """Hears what came. None of it may block."""

    def changed(self) -> None:
        """The picture of the feed changed."""

    def signal(self, key: SignalKey, sealed: bytes) -> None: ...


class Progress:
    """How far the feed is read, kept from session to session.

    certainty: how far each audience is known to be complete. unread: audiences that are being read, or whose reading
    was cut off: until they are read the picture is a mixture of before and after. doubts: audience → when what its
    stream lacks is believed to be no more, in seconds on boottime().
    """

    def __init__(self, unread: frozenset[str]) -> None:
        self.certainty = Certainty()
        self.unread: set[str] = set(unread)
        self.doubts: dict[str, float] = {}
        self.since = boottime()

    def begin(self, audiences: frozenset[str]) -> None:
        if not self.unread:
            self.since = boottime()
        self.unread |= audiences

    def end(self, audience: str, last: int) -> None:
        self.certainty.read(audience, last)
        self.unread.discard(audience)

    def drop(self, audience: str) -> None:
        self.certainty.drop(audience)
        self.doubts.pop(audience, None)
        self.unread.discard(audience)


class _Election(msgspec.Struct, frozen=True):
    """The server's word that a stream has another leader (nats-server, JSStreamLeaderElectedAdvisory).

    Every host can have its own requests answered on this subject, and would so have all hosts read again; no answer of
    the bus is of this type.
    """

    type: Literal["io.nats.jetstream.advisory.v1.stream_leader_elected"]


class Over(Enum):
    """Why a session ends."""

    LOST = "lost"
    OTHER_RIGHTS = "other rights"
    MOVED = "this host sends from elsewhere now"


class Session:
    """Feeds `view` from one connection, beginning with everything that was missed.

    `over`: why it ended, None while it goes on. `heard_at`: seconds on boottime() when the bus last proved
    itself.
    """

    def __init__(
        self, peer: Peer, view: FeedView, progress: Progress, listener: Listener, undecodables: Undecodables
    ) -> None:
        self._peer = peer
        self._view = view
        self._progress = progress
        self._listener = listener
        self._undecodables = undecodables
        self._connection: Client | None = None
        self._audiences: frozenset[str] = frozenset()
        self._reading: set[str] = set()
        self._landmarks: dict[str, Landmarks] = {}
        self._missed: set[str] = set()
        self._complete = False
        self._check_at = boottime() + CHECK_EVERY_S * random.uniform(0.5, 1.0)
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self.over: Over | None = None
        self.heard_at = boottime()

    @property
    def connection(self) -> Client | None:
        """The connection while it stands, and this host has not moved away from it."""
        stands = self._connection is not None and self._connection.is_connected and self.over is not Over.MOVED
        return self._connection if stands else None

    async def on_error(self, problem: Exception) -> None:
        """What the connection reports; the exceptions of what it calls here among it."""
        if isinstance(problem, nats.errors.SlowConsumerError):
            log.warning("the bus was faster than this host, reading again")
            self._miss(self._audiences)
        elif type(problem) is nats.errors.Error:  # the server refuses a subject: the rights are not what we believed
            self._end(Over.OTHER_RIGHTS)
        elif not isinstance(problem, nats.errors.Error | OSError):
            log.error("a message could not be taken", exc_info=problem)

    async def on_closed(self) -> None:
        self._end(Over.LOST)

    async def open(self, connection: Client, *, whole: bool) -> None:
        """Subscribe and read what was missed. whole: everything, as after a long absence.

        Returns when the picture is complete. Raises nats.errors.Error or TimeoutError.
        """
        self._connection = connection
        await connection.subscribe(subjects.signals_to(self._peer.account, self._peer.id), cb=self._on_signal)
        await connection.subscribe(subjects.FEED_LEADER, cb=self._on_election)
        await self._follow(frozenset({self._peer.audience}), whole=whole)
        await self._follow(self._granted() - self._audiences, whole=whole)
        self._complete = True
        self._judge_rights()
        self._listener.changed()

    async def run(self) -> Over:
        """Why the session is over, once it is; until then gaps are filled and the bus is asked for proof of itself."""
        keeping = asyncio.ensure_future(self._keep())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({keeping, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self.over is None:
                keeping.result()
            assert self.over is not None
            return self.over
        finally:
            keeping.cancel()
            ended.cancel()
            await asyncio.gather(keeping, ended, return_exceptions=True)

    async def _keep(self) -> None:
        while self.over is None:
            end_if_cancelled()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rest()):
                    await self._wake.wait()
            self._wake.clear()
            self._missed |= self._progress.certainty.take_due(boottime(), random.random())
            self._missed |= {audience for audience, due in self._doubts().items() if due <= boottime()}
            if boottime() >= self._check_at:
                self._check_at = boottime() + CHECK_EVERY_S
                self._missed |= self._audiences
                self._view.forget_deletions(boottime())
            if self.over is None:
                await self._fill_gaps()
                await self._prove()

    def _rest(self) -> float:
        """Seconds until there is something to do."""
        doubted = self._progress.certainty.next_deadline()
        checked = min(self._check_at, self._check_at if doubted is None else doubted, *self._doubts().values())
        return min(PROOF_EVERY_S, checked - boottime())

    def _doubts(self) -> dict[str, float]:
        return {audience: due for audience, due in self._progress.doubts.items() if audience in self._audiences}

    def leave(self) -> None:
        """This host sends from elsewhere now: nothing that is said on this connection may arrive."""
        self._end(Over.MOVED)

    async def ended(self) -> None:
        """Returns when the session is over."""
        await self._ended.wait()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _granted(self) -> frozenset[str]:
        """The audiences this host is in, as its own document says; only its own until there is one."""
        mine = self._view.documents().self_doc
        return frozenset(mine.audiences if mine else ()) | {self._peer.audience}

    def _judge_rights(self) -> None:
        """Forget what this host may no longer see; ask for a session with the rights it has now."""
        granted = self._granted()
        for audience in self._view.audiences - granted:
            self._view.drop_audience(audience)
            self._progress.drop(audience)
        if self._audiences != granted:
            self._audiences &= granted
            self._end(Over.OTHER_RIGHTS)

    async def _follow(self, audiences: frozenset[str], *, whole: bool) -> None:
        assert self._connection is not None
        self._audiences |= audiences
        self._reading |= audiences
        self._progress.begin(audiences)
        for audience in audiences:
            await self._connection.subscribe(
                subjects.live_feed_of(self._peer.account, audience), cb=self._on_live, pending_msgs_limit=100_000
            )
        await self._read(audiences, whole=whole)

    async def _fill_gaps(self) -> None:
        missed, self._missed = self._missed & self._audiences, set()
        if missed:
            self._progress.begin(frozenset(missed))
            await self._read(missed, whole=boottime() - self.heard_at > RESUMABLE_S)
            self._judge_rights()

    async def _read(self, audiences: Collection[str], *, whole: bool) -> None:
        """Read each from where the last reading ended. whole, or never read: as a snapshot."""
        room = asyncio.Semaphore(READINGS_AT_ONCE)

        async def one(audience: str) -> None:
            async with room:
                await self._read_one(audience, whole=whole)

        await asyncio.gather(*map(one, sorted(audiences)))
        self.heard_at = boottime()

    async def _read_one(self, audience: str, *, whole: bool) -> None:
        self._reading.add(audience)
        position, due = self._progress.certainty.position(audience), self._progress.doubts.get(audience)
        if whole or (not position if due is None else due <= boottime()):
            last = await self._read_whole(audience)
        else:
            last = await self._resume(audience, position) or await self._read_beside(audience)
        self._reading.discard(audience)
        self._progress.end(audience, last)

    async def _read_whole(self, audience: str) -> int:
        self._view.begin_snapshot(audience)
        self._progress.certainty.begin(audience)
        last = await self._pull(audience, 0)
        self._progress.doubts.pop(audience, None)
        if self._view.end_snapshot(audience):
            self._listener.changed()
        return last

    async def _read_beside(self, audience: str) -> int:
        """Take what another stream holds, and keep what it lacks for as long as it may still be written there."""
        self._progress.doubts.setdefault(audience, boottime() + WITHDRAW_AFTER_S * random.uniform(1.0, 1.5))
        last = await self._pull(audience, 0)
        self._progress.certainty.begin(audience)
        return last

    async def _resume(self, audience: str, position: int) -> int:
        """The last sequence of what was missed; 0 when the stream is not known to be the one that was read before."""
        landmarks = self._landmarks[audience] = Landmarks(self._view.held(audience), position)
        try:
            last = await self._pull(audience, landmarks.start) if landmarks.start else 0
        finally:
            del self._landmarks[audience]
        return last if landmarks.found else 0

    async def _pull(self, audience: str, after: int) -> int:
        assert self._connection is not None
        return await catchup.read(self._connection, self._peer.account, self._peer.id, audience, after, self._take)

    def _take(self, subject: str, sequence: int, data: bytes, last_sequence: int | None = None) -> None:
        """One message of the feed. last_sequence: what the stream held before it, known of live ones."""
        try:
            key = subjects.parse_feed(subject)
            if key.audience not in self._audiences:
                return  # withdrawn while it was on its way
            self._progress.certainty.took(key.audience, sequence)
            message = decode(subject, data, FeedMessage)
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note("feed", problem)
            return
        if key.audience in self._landmarks:
            self._landmarks[key.audience].saw(key, sequence, message)
        if last_sequence is not None and key.audience not in self._reading and self._view.gap(key, last_sequence):
            self._miss(frozenset({key.audience}))
        if self._view.apply(key, sequence, message):
            if key.kind == SELF and self._complete and not self._reading and self.over is None:
                self._judge_rights()
            self._listener.changed()

    async def _on_live(self, message: Msg) -> None:
        if audience := subjects.parse_beacon(message.subject):
            self._on_beacon(audience, message)
            return
        headers = message.headers or {}
        try:
            sequence, last = int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"])
        except (KeyError, ValueError):
            self._undecodables.note("feed", Undecodable(message.subject, "no sequence"))
            return
        self._take(message.subject, sequence, message.data, last)

    def _on_beacon(self, audience: str, message: Msg) -> None:
        try:
            beacon = decode(message.subject, message.data, Beacon)
        except Undecodable as problem:
            self._undecodables.note("beacon", problem)
            return
        if audience not in self._audiences:
            return  # withdrawn while it was on its way
        before = self._progress.certainty.next_deadline()
        self._progress.certainty.told(audience, beacon, boottime(), random.random())
        if self._progress.certainty.next_deadline() != before:
            self._wake.set()

    async def _on_election(self, message: Msg) -> None:
        try:
            msgspec.json.decode(message.data, type=_Election)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            self._undecodables.note("election", Undecodable(subjects.FEED_LEADER, str(problem)))
            return
        self._check_at = min(self._check_at, boottime() + CHECK_AFTER_ELECTION_S * random.random())
        self._wake.set()

    async def _on_signal(self, message: Msg) -> None:
        try:
            key = subjects.parse_signal(message.subject)
        except BadSubject as problem:
            self._undecodables.note("signal", problem)
            return
        self._listener.signal(key, message.data)

    async def _prove(self) -> None:
        assert self._connection is not None
        asked_at = boottime()
        await self._connection.flush(timeout=PROOF_WITHIN_S)
        self.heard_at = asked_at

    def _miss(self, audiences: frozenset[str]) -> None:
        self._missed |= audiences
        self._wake.set()

    def _end(self, why: Over) -> None:
        if self.over is None or (self.over is Over.OTHER_RIGHTS and why is not Over.OTHER_RIGHTS):
            self.over = why
        self._ended.set()
        self._wake.set()


def boottime() -> float:
    """Seconds on a clock that also runs while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

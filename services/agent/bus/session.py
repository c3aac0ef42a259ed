"""One connection to the bus, from its opening to its end: does what the reading of the feed asks for.

What is read and when is decided in core/feed/reading.py.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from services.agent.bus import catchup
from services.agent.bus.incoming import Incoming, boottime
from services.agent.core.feed.reading import Command, NewSession, Opened, Read, Reading, Subscribe
from shared.bus.client import NotPermitted
from shared.events import subjects
from shared.tasks import end_if_cancelled

PROOF_EVERY_S = 10.0
"""Also how long the session rests at most: the clock of asyncio stands still while the host is suspended."""
PROOF_WITHIN_S = 10
LIVE_LIMIT = 100_000
"""Live messages of one audience that may wait for this host; the client drops what comes beyond, and says so."""

log = structlog.get_logger()


class Peer(msgspec.Struct, frozen=True):
    """The peer that reads."""

    account: str
    id: str

    @property
    def audience(self) -> str:
        return subjects.peer_audience(self.id)


class Over(Enum):
    """Why a session ends."""

    LOST = "lost"
    OTHER_RIGHTS = "other rights"
    MOVED = "this host sends from elsewhere now"


class Session:
    """Does over one connection what `reading` asks for, and lets it hear what comes.

    `over`: why the session ended, None while it goes on.
    """

    def __init__(self, peer: Peer, reading: Reading, incoming: Incoming) -> None:
        self._peer = peer
        self._reading = reading
        self._incoming = incoming
        self._connection: Client | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = False
        self._ended = asyncio.Event()
        self.over: Over | None = None

    @property
    def connection(self) -> Client | None:
        """The connection while it stands, and this host has not moved away from it."""
        stands = self._connection is not None and self._connection.is_connected and self.over is not Over.MOVED
        return self._connection if stands else None

    async def on_error(self, problem: Exception) -> None:
        """What the connection reports; the exceptions of what it calls here among it."""
        if isinstance(problem, nats.errors.SlowConsumerError):
            log.warning("the bus was faster than this host, reading again")
            self._reading.overrun(boottime())
            self._incoming.look()
        elif isinstance(problem, NotPermitted):
            self._end(Over.OTHER_RIGHTS)
        elif not isinstance(problem, nats.errors.Error | OSError):
            log.error("a message could not be taken", exc_info=problem)

    async def on_closed(self) -> None:
        self._end(Over.LOST)

    async def open(self, connection: Client) -> None:
        """Subscribe and read what was missed. Returns when everything was read.

        Raises BusUnavailable, nats.errors.Error or TimeoutError.
        """
        self._connection = connection
        try:
            await connection.subscribe(subjects.signals_to(self._peer.account, self._peer.id), cb=self._incoming.signal)
            await connection.subscribe(subjects.resolve(self._peer.account, self._peer.id), cb=self._incoming.resolve)
            await connection.subscribe(subjects.FEED_LEADER, cb=self._incoming.election)
            self._incoming.session = self
            self._reading.connected(boottime(), random.random())
            await self._follow(connection, lambda: self._opened)
            if not self._opened:
                raise TimeoutError("the bus took the connection back")
        except BaseException:
            await self._stop()
            raise

    async def run(self) -> Over:
        """Go on until the session is over, and say why.

        Raises BusUnavailable, nats.errors.Error or TimeoutError, when the bus does not prove itself for one.
        """
        assert self._connection is not None
        self._start(self._prove(self._connection))
        try:
            await self._follow(self._connection, lambda: False)
        finally:
            await self._stop()
        assert self.over is not None
        return self.over

    def leave(self) -> None:
        """This host sends from elsewhere now: nothing that is said on this connection may arrive."""
        self._end(Over.MOVED)

    async def ended(self) -> None:
        """Returns when the session is over."""
        await self._ended.wait()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _follow(self, connection: Client, done: Callable[[], bool]) -> None:
        """Do what the reading of the feed asks for, until it is done or the session is over."""
        while self.over is None and self._is_current and not done():
            end_if_cancelled()
            self._incoming.stirred.clear()
            self._reading.advance(boottime(), random.random())
            for command in self._reading.take():
                await self._carry_out(connection, command)
            self._incoming.look()
            await self._rest()

    async def _rest(self) -> None:
        """Rest until there is something to do. Raises what a task failed with, unless the session is over."""
        deadline = self._reading.next_deadline()
        rest = PROOF_EVERY_S if deadline is None else min(PROOF_EVERY_S, deadline - boottime())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await self._incoming.stirred.wait()
        for task in [task for task in self._tasks if task.done() and self.over is None]:
            self._tasks.remove(task)
            task.result()

    async def _carry_out(self, connection: Client, command: Command) -> None:
        match command:
            case Subscribe(audience):
                subject = subjects.live_feed_of(self._peer.account, audience)
                await connection.subscribe(subject, cb=self._incoming.live, pending_msgs_limit=LIVE_LIMIT)
            case Read(audience, after):
                self._start(self._read(connection, audience, after))
            case Opened():
                self._opened = True
                self._incoming.stirred.set()
            case NewSession():
                self._end(Over.OTHER_RIGHTS)

    async def _read(self, connection: Client, audience: str, after: int) -> None:
        last = await catchup.read(connection, self._peer.account, self._peer.id, audience, after, self._incoming.read)
        if self._is_current:
            self._reading.ended(audience, last, boottime(), random.random())
            self._incoming.look()

    async def _prove(self, connection: Client) -> None:
        """Have the bus prove itself, again and again."""
        while True:
            end_if_cancelled()
            await asyncio.sleep(PROOF_EVERY_S)
            asked_at = boottime()
            await connection.flush(timeout=PROOF_WITHIN_S)
            self._reading.proved(asked_at)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._incoming.stirred.set())

    @property
    def _is_current(self) -> bool:
        """Whether no later session has begun: one that is given up may end when the next one reads already."""
        return self._incoming.session is self

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._is_current:
            self._reading.closed()

    def _end(self, why: Over) -> None:
        if self.over is None or (self.over is Over.OTHER_RIGHTS and why is not Over.OTHER_RIGHTS):
            self.over = why
        self._ended.set()
        self._incoming.stirred.set()

"""The feed for as long as the agent runs: one session after the other, the next one open before the last one closes."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
import structlog
from msgspec.structs import replace
from nats.aio.client import Client

from services.agent.bus import standing
from services.agent.bus.incoming import Incoming, boottime
from services.agent.bus.outbox import Outbox
from services.agent.bus.session import Over, Peer, Session
from services.agent.cells import Watch
from services.agent.core.documents import Documents, FeedView
from services.agent.core.feed.heldback import HELD_BACK_S
from services.agent.core.feed.reading import Reading
from services.agent.errors import AdmissionRefused
from services.agent.ports import Dial, Login
from services.agent.situation import Bus, Situation, Standing
from shared.backoff import delay_s
from shared.bus.keys import public_key
from shared.bus.patience import Trouble, in_a_line
from shared.bus.undecodable import Undecodables
from shared.errors import BusUnavailable
from shared.events.subjects import SignalKey
from shared.tasks import end_if_cancelled, first_of

BANISHED_AFTER_S = 30.0
"""A refusal that management stands by for so long is final: this peer was deleted or blocked (decision C5)."""
SETTLED_AFTER_S = {Over.LOST: 15.0, Over.OTHER_RIGHTS: 1.0, Over.MOVED: 0.0}
"""A session that lasted so long owes nothing to the attempts before it."""
FLAPPING_S = 15.0
"""A host that moves again within so long waits before it connects anew, longer each time."""

SHOWN_APART_S = 0.005
"""Documents that come faster are shown together: merging 6,000 takes 9 ms."""

log = structlog.get_logger()


class Feed:
    """Keeps `view` up to date, and shows in the situation what it amounts to and how this host stands with the bus.

    outbox: gets the session there is. hear: takes signals of other peers, sealed. resolve: takes requests of the
    resolver, by their subject. Neither may block.
    """

    def __init__(
        self,
        situation: Situation,
        dial: Dial,
        peer: Peer,
        seed: str,
        view: FeedView,
        outbox: Outbox,
        hear: Callable[[SignalKey, bytes], None],
        resolve: Callable[[str, bytes], None],
        undecodables: Undecodables,
        *,
        banished_after_s: float = BANISHED_AFTER_S,
    ) -> None:
        self._situation = situation
        self._dial = dial
        self._peer = peer
        self._login = Login(name=f"agent-{peer.id}", inbox=peer.id, seed=seed)
        self._outbox = outbox
        self._hear = hear
        self._resolve = resolve
        self._reading = Reading(peer.audience, view, boottime())
        self._incoming = Incoming(self._reading, self, undecodables)
        self._banished_after_s = banished_after_s
        self._watch = Watch()
        self._refused_since: float | None = None
        self._trouble = Trouble("no session on the bus", clock=boottime)
        self._moved = asyncio.Event()
        self._moved_at = float("-inf")
        self._flaps = 0

    def moved(self) -> None:
        """The bus is to be reached from another address of this host: now, whatever was waited for.

        Where that is said again and again the addresses flap, and each connection is lost before it is of use.
        """
        now = boottime()
        self._flaps = self._flaps + 1 if now - self._moved_at < FLAPPING_S else 0
        self._moved_at = now
        self._moved.set()
        if self._outbox.session is not None:
            self._outbox.session.leave()

    def changed(self) -> None:
        """Hears from the session that the picture changed."""
        self._watch.wake()

    def signal(self, key: SignalKey, sealed: bytes) -> None:
        """Hears from the session what another peer sent."""
        self._hear(key, sealed)

    def asked(self, subject: str, data: bytes) -> None:
        """Hears from the session what the resolver wants to know."""
        self._resolve(subject, data)

    async def run(self) -> None:
        """Until cancelled."""
        self._situation.bus.set(Bus())
        await first_of(self._read(), self._show())

    async def _show(self) -> None:
        """Show the picture as it changes; an empty one only once a session is open, or failed to be for HELD_BACK_S."""
        known_by = boottime() + HELD_BACK_S
        while True:
            end_if_cancelled()
            self._watch.catch_up()
            shown, documents = self._situation.documents.value, self._documents()
            is_known = shown is not None or self._situation.bus.value.sessions or boottime() >= known_by
            if is_known and documents != shown:
                self._situation.documents.set(documents)
            await asyncio.sleep(SHOWN_APART_S)
            await self._watch.wait(HELD_BACK_S)

    def _documents(self) -> Documents:
        """The picture, as it was before a reading while one is going on: a part of it is no picture.

        Nothing but the revision once this peer is banished (decision C5).
        """
        whole = self._reading.documents(boottime())
        return Documents(revision=whole.revision) if self._is_banished else whole

    @property
    def _is_banished(self) -> bool:
        return self._situation.bus.value.standing == "refused"

    async def _read(self) -> None:
        attempt = 0
        try:
            while True:
                end_if_cancelled()
                session = await self._open(attempt)
                opened_at = boottime()
                try:
                    why = await session.run()
                except (BusUnavailable, nats.errors.Error, TimeoutError) as problem:
                    why = Over.LOST
                    self._tell(in_a_line(problem))
                attempt = 0 if boottime() - opened_at > SETTLED_AFTER_S[why] else attempt + 1
                if why is Over.LOST:
                    attempt = max(attempt, 1)  # everybody else lost it as well: spread the return
                    await self._leave()
        finally:
            await self._leave()

    async def _open(self, attempt: int) -> Session:
        """The next session, whole and in use; the one before it is closed after that."""
        while True:
            end_if_cancelled()
            await self._pause(attempt)
            attempt += 1
            try:
                session = await self._unless_moved(self._attempt())
            except AdmissionRefused:
                await self._refused()
            except (BusUnavailable, nats.errors.Error, TimeoutError) as problem:
                self._refused_since = None
                self._tell(in_a_line(problem))
            else:
                former, self._outbox.session = self._outbox.session, session
                if self._moved.is_set():  # in the moment that it was opened
                    session.leave()
                self._stand("connected")
                if former is not None:
                    await former.close()  # which may wait for the other end of a connection that is dead
                return session

    async def _pause(self, attempt: int) -> None:
        """Wait before the attempt (0, 1, …), or until this host moves, unless that happens all the time."""
        if attempt:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s(attempt, random.random())):
                    await self._moved.wait()
        if self._moved.is_set() and self._flaps:
            await asyncio.sleep(delay_s(self._flaps, random.random()))
        self._moved.clear()

    async def _unless_moved(self, attempt: Coroutine[Any, Any, Session]) -> Session:
        """The session, given up when this host moves meanwhile: what it is opened from may be gone."""
        trying, moved = asyncio.ensure_future(attempt), asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({trying, moved}, return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                raise TimeoutError("this host's addresses changed")
            return trying.result()
        finally:
            moved.cancel()
            trying.cancel()

    async def _attempt(self) -> Session:
        session = Session(self._peer, self._reading, self._incoming)
        connection = await self._dial(self._login, session.on_error, session.on_closed)
        try:
            await self._opened(session, connection)
        except BaseException:
            await session.close()
            raise
        return session

    async def _opened(self, session: Session, connection: Client) -> None:
        opening, ended = asyncio.ensure_future(session.open(connection)), asyncio.ensure_future(session.ended())
        try:
            await asyncio.wait({opening, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                raise TimeoutError("the bus took the connection back")
            opening.result()
        finally:
            opening.cancel()
            ended.cancel()
            await asyncio.gather(opening, ended, return_exceptions=True)

    async def _refused(self) -> None:
        """Find out whether management refuses this peer, or nobody was there to answer for it."""
        said = await standing.ask(self._dial, public_key(self._login.seed))
        if said is None or said == "admitted":
            self._refused_since = None
            self._tell(standing.NOBODY)
            return
        self._tell(standing.REFUSALS[said], at_once=self._refused_since is None)
        now = boottime()
        self._refused_since = self._refused_since or now
        if now - self._refused_since >= self._banished_after_s and not self._is_banished:
            self._stand("refused")

    async def _leave(self) -> None:
        session, self._outbox.session = self._outbox.session, None
        if self._situation.bus.value.standing == "connected":
            self._stand("connecting")
        if session is not None:
            await session.close()

    def _stand(self, standing: Standing) -> None:
        before = self._situation.bus.value
        if standing == "connected":
            self._refused_since = None
            self._situation.bus.set(Bus(standing=standing, sessions=before.sessions + 1))
        else:
            self._situation.bus.set(replace(before, standing=standing))
        if standing != before.standing:
            log.info("bus", standing=standing)
        self._watch.wake()

    def _tell(self, problem: str, *, at_once: bool = False) -> None:
        self._situation.bus.set(replace(self._situation.bus.value, problem=problem))
        self._trouble.tell(problem, at_once=at_once)

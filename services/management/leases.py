"""Answers routing peers that ask about the leases of their routes' return addresses.

Every replica follows the leases in FACTS and answers; two that change one at once race, and one of them decides again.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from services.management.core.leases import NOBODY, asked_for, candidates, decide, gives_back, lease_of, told
from services.management.core.state import AccountState
from services.management.ports import NewestFold
from shared.bus.broker import Broker, Leave
from shared.bus.codec import decode, encode
from shared.bus.lastvalues import Superseded, follow, replace
from shared.bus.streams import FACTS, NO_MESSAGE
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import LeaseFact
from shared.events.signals import LEASE_ANSWER_WITHIN_S, Lease, LeaseRefused, LeaseReply, LeaseRequest

REPLICAS = "leases"
"""Queue group: the bus hands each request to one replica."""

NEWS_WITHIN_S = 1.0
"""What another replica has written is here after so long, or it is looked for in FACTS."""

MOST_WAITING = 20_000
"""Requests that wait at once: one for each lease of a routing peer, and no more of one peer than it has routes."""

NOT_YOURS = LeaseRefused(message="this peer serves no such route with a return address")

log = structlog.get_logger()


class Held:
    """The leases as FACTS holds them (shared.bus.lastvalues.Reader). Key: subject. known: set once all were read."""

    def __init__(self, undecodables: Undecodables) -> None:
        self.known = asyncio.Event()
        self._undecodables = undecodables
        self._leases: dict[str, tuple[LeaseFact, int]] = {}
        self._numbers: dict[int, str] = {}
        self._found: set[str] | None = None
        self._changed: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def of(self, subject: str) -> tuple[LeaseFact, int]:
        """The lease and its number; nobody's and 0 where there is none."""
        return self._leases.get(subject, (NOBODY, 0))

    def numbered(self, number: int) -> str:
        """The subject whose lease has that number, "" for none: no two have the same."""
        return self._numbers.get(number, "")

    async def other_than(self, subject: str, number: int, within_s: float) -> None:
        """Return once the lease has another number, or after so long."""
        changed = asyncio.Event()
        waiting = self._changed[subject]
        waiting.add(changed)
        try:
            async with asyncio.timeout(within_s):
                while self.of(subject)[1] == number:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            waiting.discard(changed)
            if not waiting:
                self._changed.pop(subject, None)

    def forget(self, subject: str) -> None:
        """There is no such lease any more."""
        _, number = self._leases.pop(subject, (NOBODY, 0))
        self._numbers.pop(number, None)
        self._tell(subject)

    def begin(self) -> None:
        self._found = set()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            fact = decode(subject, data, LeaseFact)
        except Undecodable as problem:
            self._undecodables.note(subjects.FACT_LEASES, problem)
            fact = NOBODY  # its number counts all the same: whoever comes next replaces it
        if self._found is not None:
            self._found.add(subject)
        self._set(subject, fact, sequence)

    def caught_up(self) -> None:
        """Forget what the snapshot did not bring: it was removed."""
        found, self._found = self._found or set(), None
        for subject in self._leases.keys() - found:
            self.forget(subject)
        self.known.set()

    def _set(self, subject: str, fact: LeaseFact, sequence: int) -> None:
        self._numbers.pop(self.of(subject)[1], None)
        self._leases[subject], self._numbers[sequence] = (fact, sequence), subject
        self._tell(subject)

    def _tell(self, subject: str) -> None:
        for changed in self._changed.get(subject, ()):
            changed.set()


class Leases:
    """Answers requests on `lease.<account>.<peer>`; the bus vouches for the peer."""

    def __init__(
        self,
        connection: Client,
        intent: NewestFold,
        undecodables: Undecodables,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._intent = intent
        self._undecodables = undecodables
        self._clock = clock
        self._held = Held(undecodables)
        self._waiting: set[asyncio.Task[None]] = set()
        self._asking: dict[tuple[str, str], asyncio.Task[Any]] = {}

    async def follow(self) -> None:
        """Keep up with FACTS until cancelled."""
        await follow(self._connection, FACTS, subjects.FACT_LEASES, self._held)

    async def serve(self, broker: Broker) -> Leave:
        """Answer from now on; gives what ends that. Those who wait are not answered then, and ask anew."""
        leave = await broker.hear(subjects.LEASE_ALL, self._on_request, queue=REPLICAS)

        async def end() -> None:
            await leave()
            for waiting in self._waiting:
                waiting.cancel()

        return end

    async def _on_request(self, message: Msg) -> None:
        asker = subjects.parse_lease(message.subject)
        request = decode(message.subject, message.data, LeaseRequest)
        if not message.reply or len(self._waiting) >= MOST_WAITING:
            return
        answering = asyncio.create_task(self._respond(message, asker.account, asker.peer, request))
        self._waiting.add(answering)
        answering.add_done_callback(self._waiting.discard)

    async def _respond(self, message: Msg, account: str, peer: str, request: LeaseRequest) -> None:
        try:
            await message.respond(encode(await self.answer(account, peer, request)))
        except (nats.errors.Error, APIError, TimeoutError) as problem:
            # Without an answer a routing peer goes by what it sees in its LAN.
            log.debug("a lease was not answered for", peer=peer, problem=repr(problem))

    async def answer(self, account: str, peer: str, request: LeaseRequest) -> LeaseReply:
        """The lease after the request; raises TimeoutError where the leases are not to be read, and what the bus raises
        when it takes no change."""
        state = self._intent.intent.accounts.get(account)
        route = asked_for(state, peer, request.route_id) if state else None
        if state is None or (route is None and request.wish != "release"):
            return NOT_YOURS
        async with asyncio.timeout(NEWS_WITHIN_S):  # a lease that was not read yet is not a free one
            await self._held.known.wait()
        if route is None:
            return await self._given_back(state, peer, request)
        lease = await self._answer(subjects.lease_fact(account, lease_of(route)), peer, request)
        return msgspec.structs.replace(lease, candidates=candidates(state, route))

    async def _given_back(self, state: AccountState, peer: str, request: LeaseRequest) -> LeaseReply:
        """The route may be gone that would name the lease; its number names it as well."""
        subject = self._held.numbered(request.known)
        if not subject:
            return NOT_YOURS
        key, (held, _) = subjects.parse_fact(subject), self._held.of(subject)
        if key.account != state.account.id or not gives_back(state, key.id, request, peer, held):
            return NOT_YOURS
        return await self._changed(subject, peer, request)

    async def _answer(self, subject: str, peer: str, request: LeaseRequest) -> Lease:
        if request.known > self._held.of(subject)[1]:  # another replica has written it a moment ago
            await self._news(subject, peer, self._held.of(subject)[1], NEWS_WITHIN_S)
            await self._reach(subject, request.known)
        if request.wish == "watch":
            await self._news(subject, peer, request.known, LEASE_ANSWER_WITHIN_S)
            await self._reach(subject, request.known)
            return told(*self._held.of(subject))
        return await self._changed(subject, peer, request)

    async def _reach(self, subject: str, known: int) -> None:
        """Hold no older lease than that, unless FACTS holds no newer one: by it a holder would leave the address."""
        if self._held.of(subject)[1] < known:
            await self._read(subject)

    async def _read(self, subject: str) -> None:
        """Hold what FACTS holds; raises what the bus raises when it does not say."""
        _, before = self._held.of(subject)
        try:
            found = await self._connection.jetstream().get_last_msg(FACTS, subject)
        except NotFoundError as problem:
            if problem.err_code != NO_MESSAGE:  # there is no stream
                raise
            if self._held.of(subject)[1] == before:
                self._held.forget(subject)
            return
        sequence = found.seq or 0
        _, meanwhile = self._held.of(subject)
        if meanwhile == before or meanwhile < sequence:
            self._held.message(subject, found.data or b"", sequence)

    async def _news(self, subject: str, peer: str, number: int, within_s: float) -> None:
        """Wait for another lease than that. Whoever asks anew of a lease has given up what it asked before."""
        this, former = asyncio.current_task(), self._asking.get((subject, peer))
        assert this is not None
        if former is not None:
            former.cancel()
        self._asking[subject, peer] = this
        try:
            await self._held.other_than(subject, number, within_s)
        finally:
            if self._asking.get((subject, peer)) is this:
                del self._asking[subject, peer]

    async def _changed(self, subject: str, peer: str, request: LeaseRequest) -> Lease:
        held, number = self._held.of(subject)
        wanted = decide(request, peer, held, number, self._clock())
        if wanted is None:
            return told(held, number)
        try:
            written = await replace(self._connection.jetstream(), subject, encode(wanted), after=number)
        except Superseded:
            await self._read(subject)  # another has been faster, or it was removed (factgc.py)
            return told(*self._held.of(subject))
        if wanted.holder != held.holder:
            log.info("return address", lease=subject, holder=wanted.holder or "nobody", before=held.holder or "nobody")
        return told(wanted, written)

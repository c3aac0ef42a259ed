"""The bus asks for every connection that is not a service's: may it come in, and what may it do?"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
import structlog
from nacl.public import PrivateKey
from nats.aio.msg import Msg

from services.management.admission.floods import Floods
from services.management.admission.grants import enrolling, login_expires_at, peering
from services.management.admission.jwt import BadToken, Grant, Request, admit, read_request, refuse, seal, signed_by
from services.management.ports import NewestFold
from shared.bus.broker import Broker, Leave
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import PeerStanding
from shared.metrics import REGISTRY, Counter

REPLICAS = "admission"
"""Queue group: the bus asks one replica."""

CATCH_UP_WITHIN_S = 2.0
"""The server waits 5 s for an answer (authorization timeout, shared/bus/embedded/config.py)."""

MOST_WAITING = 64
LONGEST_SETUP_KEY = 256

REASONS: dict[PeerStanding, str] = {
    "unknown": "unknown peer",
    "expired": "login expired",
    "flooding": "flooded the bus",
}

log = structlog.get_logger()

_answers = Counter("whimbrel_admissions", "Connections that asked to come in", ["outcome"], registry=REGISTRY)


class Refused(Exception):
    """Keep it out; `reason` is for the log and the metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Callout:
    """Answers the auth callout. issuer, xkey: the account seed and the curve key of the server's configuration."""

    def __init__(
        self,
        held: NewestFold,
        issuer: str,
        xkey: PrivateKey,
        floods: Floods,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._held = held
        self._issuer = issuer
        self._xkey = xkey
        self._floods = floods
        self._clock = clock
        self._waiting: set[asyncio.Task[None]] = set()

    async def serve(self, broker: Broker) -> Leave:
        """Answer from now on; gives what ends that after the requests at work. The fold must have caught up."""
        leave = await broker.hear(subjects.AUTH_CALLOUT, self._on_request, queue=REPLICAS)

        async def drain() -> None:
            await leave()
            await asyncio.gather(*self._waiting)

        return drain

    async def _on_request(self, message: Msg) -> None:
        server_xkey = (message.headers or {}).get("Nats-Server-Xkey", "")
        try:
            request = read_request(message.data, server_xkey, self._xkey)
        except BadToken as problem:
            raise Undecodable(message.subject, problem.problem) from None
        if self._may_be_newer(request):
            self._start(self._answer_when_caught_up(message, request))
        else:
            await self._answer(message, request)

    def _may_be_newer(self, request: Request) -> bool:
        """A peer that enrolled with another replica a moment ago; this one's fold may not know it yet."""
        unknown = bool(request.presented.nkey) and self._held.intent.peer_by_bus_key(request.presented.nkey) is None
        return unknown and len(self._waiting) < MOST_WAITING

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(answering)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer_when_caught_up(self, message: Msg, request: Request) -> None:
        try:
            async with asyncio.timeout(CATCH_UP_WITHIN_S):
                await self._held.catch_up()
        except (TimeoutError, nats.errors.Error) as problem:
            log.warning("admission decides without the newest log", problem=repr(problem))
        await self._answer(message, request)

    async def _answer(self, message: Msg, request: Request) -> None:
        now = self._clock()
        try:
            answer = admit(request, self._grant(request, now), self._issuer, now)
            _answers.labels("admitted").inc()
        except Refused as refusal:
            answer = refuse(request, refusal.reason, self._issuer, now)
            _answers.labels(refusal.reason).inc()
            log.info("connection refused", reason=refusal.reason, host=request.client.host)
        await message.respond(seal(answer, request.server.xkey, self._xkey))

    def _grant(self, request: Request, now: float) -> Grant:
        presented = request.presented
        if presented.nkey:
            return self._peer_grant(request)
        if presented.user == ENROL_USER and 0 < len(presented.password) <= LONGEST_SETUP_KEY:
            return enrolling(presented.password, now)
        raise Refused("neither a peer nor enrolling")

    def _peer_grant(self, request: Request) -> Grant:
        presented, intent = request.presented, self._held.intent
        if not signed_by(presented.nkey, presented.sig, request.client.nonce):
            raise Refused("wrong signature")
        standing = self.standing(presented.nkey)
        owner = intent.peer_by_bus_key(presented.nkey)
        if owner is None or standing != "admitted":
            raise Refused(REASONS[standing])
        state = intent.accounts[owner.account]
        return peering(state, state.peers[owner.id])

    def standing(self, bus_key: str) -> PeerStanding:
        """Whether the peer with this key is let in now."""
        now, intent = self._clock(), self._held.intent
        owner = intent.peer_by_bus_key(bus_key)
        if owner is None:
            return "unknown"
        if self._floods.is_kept_out(owner.account, owner.id, now):
            return "flooding"
        state = intent.accounts[owner.account]
        return "expired" if 0.0 < login_expires_at(state, state.peers[owner.id]) <= now else "admitted"

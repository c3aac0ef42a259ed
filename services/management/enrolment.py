"""Hosts that ask to become peers."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.management.core.commands.decision import Context, Decision
from services.management.core.commands.enrol import AddressPicks, enrol
from services.management.core.model.commit import Actor
from services.management.core.state import AccountState, Owner
from services.management.errors import ChangesRefused, Contended, NotEnrolled, RetryLater
from services.management.ports import CommitPort, NewestFold
from shared.bus.broker import Broker, Leave
from shared.bus.codec import decode, encode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.signals import EnrolRefused, EnrolReply, EnrolRequest, PeerStanding
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY, Counter

REPLICAS = "enrolment"
"""Queue group: the bus hands each request to one replica."""

CATCH_UP_WITHIN_S = 2.0

STAYS_UNKNOWN_S = 1.0
"""How long an unknown key is refused without asking the log again: anybody may come with one and ask without end, and
those with a good key wait behind."""
MOST_UNKNOWN = 10_000

UNKNOWN = EnrolRefused(
    reason="unknown", message="the setup key is not known: check it, or ask for a new one", peer="unknown"
)

PICKS = 16
"""Random addresses tried before the next free one is taken."""

T = TypeVar("T")

_enrolments = Counter("whimbrel_enrolments", "Hosts that asked to enrol", ["outcome"], registry=REGISTRY)


class Enrolment:
    """Answers requests on `enrol.<hash of the setup key>`; the bus vouches that the sender presented the key.

    standing: how the peer with a bus key stands with admission.
    """

    def __init__(
        self,
        held: NewestFold,
        commit: CommitPort,
        new_id: Callable[[], str],
        standing: Callable[[str], PeerStanding],
        undecodables: Undecodables,
    ) -> None:
        self._held = held
        self._commit = commit
        self._new_id = new_id
        self._standing = standing
        self._undecodables = undecodables
        self._unknown_until: dict[str, float] = {}

    async def serve(self, broker: Broker) -> Leave:
        """Answer from now on; gives what ends that after the requests at work."""
        return await broker.hear(subjects.ENROL_ALL, self._on_request, queue=REPLICAS)

    async def _on_request(self, message: Msg) -> None:
        reply = await self.answer(message.subject, message.data)
        if message.reply:
            await message.respond(encode(reply))

    async def answer(self, subject: str, data: bytes) -> EnrolReply:
        """Enrolled, or why not. What cannot be decoded is refused as invalid."""
        reply = await self._reply(subject, data)
        _enrolments.labels(reply.reason if isinstance(reply, EnrolRefused) else "enrolled").inc()
        return reply

    async def _reply(self, subject: str, data: bytes) -> EnrolReply:
        try:
            key_hash = subjects.parse_enrol(subject)
            owner = await self._owner(key_hash)
            if owner is None:
                return self._unknown(subject, data)
            request = decode(subject, data, EnrolRequest)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.ENROL_ALL, problem)
            return EnrolRefused(reason="invalid", message="the request cannot be read: update the agent")
        try:
            return await self._commit(owner.account, lambda state: self._decide(state, request, key_hash))
        except NotEnrolled as refusal:
            return EnrolRefused(reason=refusal.reason, message=refusal.message)
        except (ChangesRefused, Contended, RetryLater) as problem:
            return EnrolRefused(reason="unavailable", message=str(problem))

    def _unknown(self, subject: str, data: bytes) -> EnrolRefused:
        """Anybody may come with an unknown key: what cannot be read of them is not worth a word."""
        try:
            bus_key = decode(subject, data, EnrolRequest).bus_key
        except Undecodable:
            return UNKNOWN
        return replace(UNKNOWN, peer=self._standing(bus_key))

    async def _owner(self, key_hash: str) -> Owner | None:
        """Whose setup key it is. One that another replica made a moment ago counts too."""
        owner = self._held.intent.setup_key_by_hash(key_hash)
        if owner is None and self._unknown_until.get(key_hash, 0.0) < time.monotonic():
            with contextlib.suppress(TimeoutError, nats.errors.Error):
                async with asyncio.timeout(CATCH_UP_WITHIN_S):
                    await self._held.catch_up()
            owner = self._held.intent.setup_key_by_hash(key_hash)
            if owner is None:
                self._remember(key_hash)
        return owner

    def _remember(self, unknown: str) -> None:
        if len(self._unknown_until) >= MOST_UNKNOWN:
            self._unknown_until.clear()
        self._unknown_until[unknown] = time.monotonic() + STAYS_UNKNOWN_S

    def _decide(self, state: AccountState, request: EnrolRequest, key_hash: str) -> Decision[EnrolReply]:
        picks = AddressPicks(v4=_random(), v6=_random())
        context = Context(time.time(), Actor(id="sys"), self._new_id)
        return enrol(self._held.intent, state, request, key_hash, picks, context)  # type: ignore[return-value]


def _random() -> tuple[int, ...]:
    return tuple(secrets.randbits(64) for _ in range(PICKS))

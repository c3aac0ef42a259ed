"""Replicas over a real bus, and FEED as it stands there."""

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from services.management.core.entities import Entity, Ref
from services.management.core.feed.compose import documents
from services.management.core.feed.unit import LastWord, Observed, Resolutions
from services.management.core.state import Intent
from shared.bus.codec import decode, encode
from shared.bus.connection import connect
from shared.bus.streams import FEED
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import Document, FeedMessage, PresenceDoc, ResolvedName, Tombstone
from shared.events.facts import CandidacyFact, ReportFact, ResolutionFact, SessionFact
from shared.events.subjects import FeedKey
from tests import builders
from tests.builders import ACCOUNT
from tests.bus.projector.replica import Replica, running
from tests.support.bus import LIMIT_S, Bus, eventually

NewReplica = Callable[[], Awaitable[Replica]]


def untold(key: FeedKey, sequence: int) -> None:
    """For a writer that nobody wants to hear of."""


class Plane:
    """The bus, a log to commit to, and what FEED should hold according to a fold of the test's own."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.intent = Intent()
        self.resolutions: dict[str, Resolutions] = {}
        self.last_words: dict[str, LastWord] = {}
        """Of ACCOUNT; a test says what it expects there."""
        self.versions: dict[str, str] = {}
        self.unseen: set[str] = set()
        """Likewise."""

    async def commit(self, *upserts: Entity, deletes: tuple[Ref, ...] = (), account: str = ACCOUNT) -> int:
        """Append to the log; gives the sequence."""
        commit = builders.commit(*upserts, deletes=deletes, account=account)
        sequence = (await self.bus.management.jetstream().publish(subjects.log(account), encode(commit))).seq
        self.intent.apply(sequence, commit)
        return sequence

    async def found(self, *entities: Entity, account: str = ACCOUNT) -> int:
        """Append an account with its group All."""
        return await self.commit(builders.account(account), builders.group_all(), *entities, account=account)

    async def resolve(self, route_id: str, revision: int, names: tuple[ResolvedName, ...]) -> None:
        """Publish a fact as the resolver does."""
        fact = ResolutionFact(route_id=route_id, revision=revision, names=names)
        await self.publish_fact(subjects.resolution_fact(ACCOUNT, route_id), encode(fact), "resolver")
        self.resolutions[ACCOUNT] = {**self.resolutions.get(ACCOUNT, {}), route_id: names}

    async def session(self, peer: str, *, connected: bool, epoch: int = 1, ago_s: float = 5.0) -> None:
        """Publish a fact as signal does."""
        fact = SessionFact(peer_id=peer, epoch=epoch, connected=connected, since=time.time() - ago_s)
        await self.publish_fact(subjects.session_fact(ACCOUNT, peer), encode(fact), "signal")

    async def candidacy(self, peer: str, fact: CandidacyFact) -> None:
        """Publish a fact as the peer's agent does, with its rights."""
        agent = await self.bus.peer(ACCOUNT, peer)
        await agent.request(subjects.candidacy_fact(ACCOUNT, peer), encode(fact))
        await agent.close()

    async def report(self, peer: str, version: str) -> None:
        """Publish a fact as the peer's agent does, with its rights."""
        fact = ReportFact(
            peer_id=peer,
            version=version,
            hostname=peer,
            os="Debian",
            kernel="6.12",
            backend="kernel",
            desired_revision=1,
            applied_revision=1,
            pending=0,
        )
        agent = await self.bus.peer(ACCOUNT, peer)
        await agent.request(subjects.report_fact(ACCOUNT, peer), encode(fact))
        await agent.close()

    async def publish_fact(self, subject: str, data: bytes, role: str) -> None:
        """Publish as one of the services."""
        service = await connect(self.bus.url, getattr(self.bus.keys, role), role)
        await service.jetstream().publish(subject, data)
        await service.close()

    async def presence(self, peer: str) -> PresenceDoc | None:
        """What FEED says of the routing peer to the office."""
        document = (await self.shown()).get(FeedKey(ACCOUNT, "g.office", "presence", peer))
        assert document is None or isinstance(document, PresenceDoc)
        return document

    def expected(self) -> dict[FeedKey, Document]:
        return {
            key: document
            for account, state in self.intent.accounts.items()
            for key, document in documents(state, self._observed(account)).items()
        }

    def _observed(self, account: str) -> Observed:
        resolutions = self.resolutions.get(account, {})
        if account != ACCOUNT:
            return Observed(resolutions)
        return Observed(resolutions, self.last_words, self.versions, frozenset(self.unseen))

    async def stored(self) -> dict[FeedKey, FeedMessage]:
        """Every document in FEED, tombstones too."""
        return dict(await self.in_order())

    async def in_order(self) -> list[tuple[FeedKey, FeedMessage]]:
        """The same in the order in which they were written."""
        jetstream = self.bus.management.jetstream()
        consumer = await jetstream.add_consumer(FEED, ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True))
        subscription = await jetstream.pull_subscribe_bind(consumer.name, stream=FEED)
        messages = await subscription.fetch(consumer.num_pending, timeout=5) if consumer.num_pending else []
        await subscription.unsubscribe()
        await jetstream.delete_consumer(FEED, consumer.name)
        documents = [message for message in messages if message.subject != subjects.FEED_OWNER]
        return [(subjects.parse_feed(m.subject), decode(m.subject, m.data, FeedMessage)) for m in documents]

    async def claimed(self) -> int:
        """Sequence of the newest claim, 0 before the first."""
        try:
            return (await self.bus.management.jetstream().get_last_msg(FEED, subjects.FEED_OWNER)).seq or 0
        except NotFoundError:
            return 0

    async def shown(self) -> dict[FeedKey, Document]:
        stored = await self.stored()
        return {key: m.document for key, m in stored.items() if not isinstance(m.document, Tombstone)}

    async def right(self) -> bool:
        try:
            return await self.shown() == self.expected()
        except Undecodable:
            return False

    async def becomes_right(self, within_s: float = LIMIT_S) -> None:
        """Return once FEED holds exactly the documents of the log."""
        await eventually(self.right, within_s=within_s)


@pytest.fixture
def plane(bus: Bus) -> Plane:
    return Plane(bus)


@pytest.fixture
async def new_replica(bus: Bus, tmp_path: Path) -> AsyncIterator[NewReplica]:
    """Starts replicas, each with a read model of its own; ends them all."""
    numbers = itertools.count(1)
    async with AsyncExitStack() as stack:

        async def start() -> Replica:
            directory = tmp_path / f"replica-{next(numbers)}"
            return await stack.enter_async_context(running(bus.url, bus.keys.management, bus.keys.system, directory))

        yield start

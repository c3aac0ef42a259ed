"""One lane of the projector: some kinds of documents, written by one replica at a time."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.management.core.feed.compose import Documents, Unit, UnitKind, unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.ports import Fold
from services.management.projector.inputs import Input
from services.management.projector.pinned import PinnedConsumer
from services.management.projector.reading import read_all
from services.management.projector.writer import FencedWriter, NotStored, Superseded
from shared.bus.codec import decode
from shared.bus.streams import FEED
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import KINDS, Document, FeedMessage, Tombstone
from shared.events.subjects import FeedKey
from shared.metrics import REGISTRY, Counter, Gauge

RETRY_S = 0.25

_DOCUMENT_KINDS: dict[UnitKind, str] = {
    "settings": "settings",
    "self": "self",
    "peer": "peer",
    "policy": "rule",
    "route": "route",
    "resolution": "resolution",
}

_writes = Counter("whimbrel_feed_writes", "Documents and tombstones written to FEED", ["lane"], registry=REGISTRY)
_owned = Gauge("whimbrel_projector_lane_owned", "1 while this replica writes the lane", ["lane"], registry=REGISTRY)

log = structlog.get_logger()


class Lane:
    """Keeps the documents of some kinds in FEED equal to what the intent and the input say, while it is the owner.

    The owner is whoever is served by the pinned consumer and has claimed the lane in FEED. It reads FEED once, writes
    the whole difference, and from then on only what commits and the input touch. Any trouble ends that; it starts anew
    as long as the pin is held. Messages are acknowledged after what they touch is stored, so that whatever an owner
    left undone is delivered to its successor.
    """

    def __init__(
        self,
        name: str,
        kinds: frozenset[UnitKind],
        source: Input,
        client: Client,
        fold: Fold,
        indexes: Mapping[str, FeedIndex],
        undecodables: Undecodables,
    ) -> None:
        self._name = name
        self._kinds = kinds
        self._source = source
        self._client = client
        self._fold = fold
        self._indexes = indexes
        self._undecodables = undecodables
        self._writer = FencedWriter(client, name)
        self._consumer = PinnedConsumer(
            client,
            source.stream,
            f"projector-{name}",
            source.filter,
            on_message=self._delivered,
            on_lost=self._lost,
        )
        self._pin = ""
        self._messages: list[Msg] = []
        self._published: Published | None = None
        self._dirty: dict[str, set[Unit]] = defaultdict(set)
        self._wake = asyncio.Event()

    @property
    def owner(self) -> bool:
        return self._published is not None

    def mark(self, account: str, touched: Iterable[Unit]) -> None:
        """Have these units computed anew. Without effect on a replica that does not own the lane."""
        if self._published is None:
            return
        mine = {unit for unit in touched if unit.kind in self._kinds}
        if mine:
            self._dirty[account] |= mine
            self._wake.set()

    async def run(self) -> None:
        """Follow the consumer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumer.run())
            tasks.create_task(self._work())

    def _delivered(self, message: Msg, pin: str) -> None:
        if pin != self._pin:
            self._lost()
            self._pin = pin
        self._messages.append(message)
        self._wake.set()

    def _lost(self) -> None:
        """Another replica may have written since: forget all that was known."""
        self._pin = ""
        self._messages.clear()
        self._stand_by()

    def _stand_by(self) -> None:
        self._published = None
        self._dirty.clear()
        _owned.labels(self._name).set(0)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
            except (Superseded, NotStored, NatsError, TimeoutError) as problem:
                log.warning("projector lane stopped writing", lane=self._name, problem=repr(problem))
                self._stand_by()
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def _step(self) -> None:
        if not self._pin:
            return
        messages, self._messages = self._messages, []
        if self._published is None:
            await self._take_over(self._pin)
        for account, unit in await self._source.take(messages):
            self.mark(account, (unit,))
        await self._write_dirty()
        for message in messages:
            if not message.is_acked:
                await message.ack()

    async def _take_over(self, pin: str) -> None:
        claimed = await self._writer.claim()
        await self._source.load()
        stored, newest = await self._read_feed(claimed)
        await self._fold.wait_for(newest)
        if self._pin != pin:
            raise Superseded
        # Nothing is awaited from here to the first look at the intent, and `mark` collects from here on.
        self._published = Published(stored)
        for account, known in self._published.units():
            self.mark(account, known)
        for account, state in self._fold.intent.accounts.items():
            self.mark(account, units(state))
        _owned.labels(self._name).set(1)
        log.info("projector lane taken over", lane=self._name, documents=len(stored), revision=newest)

    async def _read_feed(self, claimed: int) -> tuple[dict[FeedKey, Document | None], int]:
        """The lane's documents in FEED, None for what is unreadable, and the newest revision among them."""
        stored: dict[FeedKey, Document | None] = {}
        newest = 0
        claims = subjects.feed_owner(self._name)
        filters = [subjects.feed_of_kind(_DOCUMENT_KINDS[kind]) for kind in sorted(self._kinds)]
        messages = await read_all(self._client, FEED, [claims, *filters])
        if not messages or messages[-1].metadata.sequence.stream < claimed:
            raise NotStored("this server has not got the claim yet")
        for message in messages:
            if message.subject == claims:
                continue
            key = subjects.parse_feed(message.subject)
            stored[key] = None
            try:
                held = decode(message.subject, message.data, FeedMessage)
            except Undecodable as problem:
                self._undecodables.note(FEED, problem)
                continue
            newest = max(newest, held.revision)
            if isinstance(held.document, Tombstone):
                del stored[key]
            elif KINDS[type(held.document)] == key.kind:
                stored[key] = held.document
        return stored, newest

    async def _write_dirty(self) -> None:
        dirty, self._dirty = self._dirty, defaultdict(set)
        for account, touched in dirty.items():
            if self._published is None:
                raise Superseded
            writes = self._published.update(account, {unit: self._documents(account, unit) for unit in touched})
            state = self._fold.intent.accounts.get(account)
            revision = state.revision if state else self._fold.sequence
            await self._writer.write([(key, FeedMessage(revision, document)) for key, document in writes])
            _writes.labels(self._name).inc(len(writes))

    def _documents(self, account: str, unit: Unit) -> Documents:
        state = self._fold.intent.accounts.get(account)
        if state is None:
            return {}
        return unit_documents(state, self._source.resolutions(account), self._indexes[account], unit)

"""LOG and FACTS → FEED: the documents of every account, written by one replica of management at a time."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.core.feed.compose import Documents, Unit, unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.core.state import Change
from services.management.ports import Fold
from services.management.projector.beacons import BeaconSender
from services.management.projector.facts import Facts
from services.management.projector.pinned import PinnedConsumer
from services.management.projector.reading import FeedReader
from services.management.projector.writer import FencedWriter, NotStored, Superseded
from shared.bus.connection import REPORT_EVERY_S
from shared.bus.lastvalues import follow
from shared.bus.streams import FACTS, LOG
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

CONSUMER = "projector"
RETRY_S = 0.25
"""After trouble, how long until the next try."""

_writes = Counter("whimbrel_feed_writes", "Documents and tombstones written to FEED", registry=REGISTRY)
_owner = Gauge("whimbrel_projector_owner", "1 while this replica writes FEED", registry=REGISTRY)

log = structlog.get_logger()


class Projector:
    """Keeps FEED equal to what intent and facts say, while it is the owner.

    The owner is whoever a pinned consumer of LOG serves and has claimed FEED since. It reads FEED once, writes the
    whole difference, and from then on only what commits and facts touch. Any trouble ends that, and the next delivery
    starts it anew. A commit is acknowledged after its documents are stored, and the newest one not at all: so there is
    always a message to deliver, and an owner that is lost has a successor even if nothing is committed any more.

    client: a connection with management's rights. fold: should have caught up with LOG before `run`, because a replica
    that becomes the owner first waits for its own fold.
    """

    def __init__(self, client: Client, fold: Fold, undecodables: Undecodables) -> None:
        self._client = client
        self._fold = fold
        self._indexes = {account: FeedIndex(state) for account, state in fold.intent.accounts.items()}
        self._facts = Facts(fold, undecodables, self._resolved)
        self._beacons = BeaconSender(client)
        self._reader = FeedReader(client, undecodables, self._beacons.stood)
        self._writer = FencedWriter(client, self._beacons.stored)
        self._consumer = PinnedConsumer(
            client, LOG, CONSUMER, subjects.LOG_ALL, on_message=self._delivered, on_lost=self._lost
        )
        self._pin = ""
        self._unacknowledged: dict[int, Msg] = {}
        self._published: Published | None = None
        self._dirty: dict[str, set[Unit]] = defaultdict(set)
        self._wake = asyncio.Event()
        fold.listen(self)

    @property
    def owner(self) -> bool:
        """Whether this replica believes to be the one that writes."""
        return self._published is not None

    async def run(self) -> None:
        """Write FEED whenever this replica is the owner, until cancelled; another one takes over at once then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follow(self._client, FACTS, subjects.FACT_RESOLUTIONS, self._facts))
                tasks.create_task(self._consumer.run())
                tasks.create_task(self._beacons.run())
                tasks.create_task(self._work())
        finally:
            await self._hand_back(after_s=0)

    def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
        """Every replica follows every commit, so that a new owner has its indexes at hand."""
        index = self._indexes.get(account)
        if index:
            touched: Iterable[Unit] = index.touched(changes)
        else:
            state = self._fold.intent.accounts[account]
            self._indexes[account] = FeedIndex(state)
            touched = units(state)
        self._mark(account, touched)
        self._facts.folded()

    def _resolved(self, account: str, route: str) -> None:
        self._mark(account, (Unit("resolution", route),))

    def _mark(self, account: str, touched: Iterable[Unit]) -> None:
        """Have the units computed anew. A replica that is not the owner will look at all of them when it becomes it."""
        if self._published is not None:
            self._dirty[account].update(touched)
            self._wake.set()

    def _delivered(self, message: Msg, pin: str) -> None:
        if pin != self._pin:
            self._lost()
            self._pin = pin
        self._unacknowledged[message.metadata.sequence.stream] = message
        self._wake.set()

    def _lost(self) -> None:
        """Another replica may have written since: forget all that was known."""
        self._pin = ""
        self._published = None
        self._beacons.forget()
        self._unacknowledged.clear()
        self._dirty.clear()
        _owner.set(0)

    async def _hand_back(self, *, after_s: float) -> None:
        """Stand by until something is delivered. The bus knows who is served now: this replica, or another one."""
        messages = list(self._unacknowledged.values())
        self._lost()
        for message in messages:
            with contextlib.suppress(nats.errors.Error):
                await message.nak(delay=after_s)

    async def _work(self) -> None:
        reported_at = float("-inf")
        while True:
            end_if_cancelled()
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
            except (Superseded, NotStored, nats.errors.Error, TimeoutError) as problem:
                if time.monotonic() - reported_at >= REPORT_EVERY_S:
                    reported_at = time.monotonic()
                    log.warning("projector stopped writing, going on trying", problem=repr(problem))
                await self._hand_back(after_s=RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _step(self) -> None:
        """Bring FEED up to the fold, and acknowledge the commits that are in it."""
        if self._published is None:
            if not self._unacknowledged:
                return
            await self._take_over(self._pin)
        reached = self._fold.sequence
        await self._write_dirty()
        newest = max(self._unacknowledged, default=0)
        done = [s for s in self._unacknowledged if s <= reached and s < newest]
        for message in [self._unacknowledged.pop(sequence) for sequence in done]:
            await message.ack()

    async def _take_over(self, pin: str) -> None:
        claimed = await self._writer.claim()
        self._beacons.forget()
        stored, newest = await self._reader.read(claimed)
        await self._facts.known()
        await self._fold.wait_for(newest)
        if self._pin != pin:
            raise Superseded
        # Nothing is awaited from here to the first look at the intent, and `_mark` collects from here on.
        self._published = Published(stored)
        for account, known in self._published.units():
            self._mark(account, known)
        for account, state in self._fold.intent.accounts.items():
            self._mark(account, units(state))
        _owner.set(1)
        log.info("projector took over", documents=len(stored), revision=newest)

    async def _write_dirty(self) -> None:
        dirty, self._dirty = self._dirty, defaultdict(set)
        for account, touched in dirty.items():
            if self._published is None:
                raise Superseded
            writes = self._published.update(account, {unit: self._documents(account, unit) for unit in touched})
            state = self._fold.intent.accounts.get(account)
            revision = state.revision if state else self._fold.sequence
            await self._writer.write([(key, FeedMessage(revision, document)) for key, document in writes])
            _writes.inc(len(writes))

    def _documents(self, account: str, unit: Unit) -> Documents:
        state = self._fold.intent.accounts.get(account)
        if state is None:
            return {}
        return unit_documents(state, self._facts.resolutions(account), self._indexes[account], unit)

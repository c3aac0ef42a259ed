"""LOG and FACTS → FEED: the documents of every account, written by one replica of management at a time."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from itertools import islice

import nats.errors
import structlog
from nats.aio.client import Client

from services.management.core.feed.compose import unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.offers import served_by
from services.management.core.feed.pace import Pace
from services.management.core.feed.pending import Lane, Pending, look_at
from services.management.core.feed.published import Published, Write
from services.management.core.feed.unit import Documents, Observed, Unit
from services.management.core.feed.units.presence import PRESENCE
from services.management.core.model.peer import Peer
from services.management.core.state import Change
from services.management.ports import Fold
from services.management.projector.agents import Agents
from services.management.projector.beacons import BeaconSender
from services.management.projector.facts import Facts
from services.management.projector.keeper import Delivery, Dial, PinKeeper
from services.management.projector.lastwords import LastWords
from services.management.projector.snapshot import FeedReader
from services.management.projector.standings import Standings
from services.management.projector.succession import Claim
from services.management.projector.writer import FeedWrite, FencedWriter, NotStored, Superseded
from shared.bus.lastvalues import follow
from shared.bus.patience import OF_THE_BUS, Patience, Trouble
from shared.bus.streams import FACTS, LOG
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

CONSUMER = "projector"
"""The pinned consumer of LOG."""

RETRY_S = 0.25
"""After trouble, how long until the next try."""

SLICE_S = 0.004
"""Documents are computed for this long before others may run: requests, admissions, and what keeps the pin."""

TURN_S = 0.05
"""Documents are computed for this long before what they need is written, and the other lane has its turn."""

ENOUGH = 900
"""Messages that are written together: the last unit looked at shall still fit into their batch."""

MARKED_AT_ONCE = 2_000
"""Units that a new owner marks before others may run."""

LOOKED_AT_ONCE = 500
"""Peers whose agents are looked at before others may run."""

LOOK_EVERY_S = 3600.0
"""How often those are found that were not seen for long; nothing tells of it."""

_writes = Counter("whimbrel_feed_writes", "Documents and tombstones written to FEED", registry=REGISTRY)
_owner = Gauge("whimbrel_projector_owner", "1 while this replica writes FEED", registry=REGISTRY)

log = structlog.get_logger()


class Projector:
    """Keeps FEED equal to the documents that intent and facts ask for, while this replica is the owner.

    The owner is the replica that a pinned consumer of LOG serves and that has claimed FEED since. It reads FEED once,
    writes the whole difference, and from then on only the units that commits and facts touch, small changes before
    large ones (core/feed/pending.py). It writes documents in the order in which it computed them, so that no older one
    follows a newer one. Any trouble ends the ownership, and the next delivery starts it anew. The owner
    acknowledges a commit after its documents are stored, and the newest one not at all: so there is always a message to
    deliver, and a lost owner has a successor even if nothing is committed any more.

    client: a connection with management's rights. dial: gives another one, for the thread that keeps the pin.
    fold: should have caught up with LOG before `run`, because a replica that becomes the owner first waits for its own
    fold. last_words, facts: of that fold; they are kept up to date while the projector runs.
    """

    def __init__(
        self,
        client: Client,
        dial: Dial,
        fold: Fold,
        undecodables: Undecodables,
        last_words: LastWords,
        facts: Facts,
    ) -> None:
        self._client = client
        self._fold = fold
        self._indexes = {account: FeedIndex(state) for account, state in fold.intent.accounts.items()}
        self._facts = facts
        facts.on_change = self._resolved
        self._last_words = last_words
        last_words.on_change = self._spoken
        self._agents = Agents(fold, undecodables, last_words.sessions.of, time.time, self._heard)
        self._agents_known = asyncio.Event()
        self._beacons = BeaconSender(client)
        self._reader = FeedReader(client, undecodables, self._beacons.stood)
        self._writer = FencedWriter(client, self._beacons.stored)
        self._consumer = PinKeeper(
            dial, LOG, CONSUMER, subjects.LOG_ALL, on_message=self._delivered, on_lost=self._lost
        )
        self._pin = ""
        self._unacknowledged: dict[int, Delivery] = {}
        self._published: Published | None = None
        self._pending = Pending()
        self._wake = asyncio.Event()
        self._standings = Standings()
        self._pace = Pace()
        self.on_presence: Callable[[str, str], None] = lambda _account, _peer: None
        """Called with account and peer whenever how a routing peer stands may have changed, and for each peer when this
        replica becomes the owner."""
        fold.listen(self)

    @property
    def owner(self) -> bool:
        """Whether this replica takes itself for the owner."""
        return self._published is not None

    async def run(self) -> None:
        """Write FEED whenever this replica is the owner, until cancelled; another one takes over at once then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follow(self._client, FACTS, subjects.FACT_RESOLUTIONS, self._facts))
                words = self._last_words
                for newest in (words.sessions, words.candidacies, words.holders, self._agents.reports):
                    tasks.create_task(follow(self._client, FACTS, newest.pattern, newest))
                tasks.create_task(self._look_at_agents())
                tasks.create_task(self._consumer.run())
                tasks.create_task(self._beacons.run())
                tasks.create_task(self._work())
        finally:
            await self._hand_back(after_s=0)

    def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
        """Every replica follows every commit, so that a new owner has its indexes at hand."""
        index = self._indexes.get(account)
        if index:
            touched: Collection[Unit] = index.touched(changes)
            for change in changes:
                if isinstance(change.old, Peer) and change.new is None:
                    index.heard(change.ref.id, "", unseen=False)
        else:
            state = self._fold.intent.accounts[account]
            self._indexes[account] = FeedIndex(state)
            touched = list(units(state))
        self._mark(account, touched, sequence)
        self._facts.folded()

    def _resolved(self, account: str, route: str) -> None:
        self._mark(account, (Unit("resolution", route),), self._fold.sequence)

    def _heard(self, account: str, peer_id: str) -> None:
        index = self._indexes.get(account)
        if index:
            version, unseen = self._agents.of(account, peer_id)
            if touched := index.heard(peer_id, version, unseen=unseen):
                self._mark(account, touched, self._fold.sequence)

    async def _look_at_agents(self) -> None:
        """Find out who was not seen for long. Whoever is seen again says so."""
        await self._last_words.known()
        await self._agents.reports.known.wait()
        while True:
            end_if_cancelled()
            for account, state in list(self._fold.intent.accounts.items()):
                left = iter(list(state.peers))
                while some := list(islice(left, LOOKED_AT_ONCE)):
                    for peer_id in some:
                        self._heard(account, peer_id)
                    await asyncio.sleep(0)
            self._agents_known.set()
            self._pace.forget(time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)

    def _spoken(self, account: str, peer_id: str) -> None:
        """Most peers serve nothing: ten thousand that connect at once cost no unit."""
        self._heard(account, peer_id)
        state = self._fold.intent.accounts.get(account)
        peer = state.peers.get(peer_id) if state else None
        if self.owner and state and peer and any(served_by(state, peer)):
            wait_s = self._pace.changed((account, peer_id), time.monotonic())
            if wait_s == 0.0:
                self._stands_otherwise(account, peer_id)
            elif wait_s is not None:
                asyncio.get_running_loop().call_later(wait_s, self._stands_otherwise, account, peer_id)

    def _stands_otherwise(self, account: str, peer_id: str) -> None:
        self._pace.waited((account, peer_id))
        self._mark(account, (Unit(PRESENCE.name, peer_id),), self._fold.sequence)

    def _mark(self, account: str, touched: Collection[Unit], sequence: int) -> None:
        """Have the units computed anew. A replica that is not the owner will look at all of them when it becomes it."""
        if self._published is not None:
            self._pending.mark(account, touched, sequence)
            self._wake.set()
            for unit in touched:
                if unit.kind == PRESENCE.name:
                    self.on_presence(account, unit.id)

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.pin != self._pin:
            self._lost()
            self._pin = delivery.pin
        self._unacknowledged[delivery.sequence] = delivery
        self._wake.set()

    def _lost(self) -> None:
        """Another replica may have written since: forget FEED as read, and the work that waited."""
        self._pin = ""
        self._published = None
        self._beacons.end()
        self._standings.forget()
        self._unacknowledged.clear()
        self._pending = Pending()
        _owner.set(0)

    async def _hand_back(self, *, after_s: float) -> None:
        """Stand by until something is delivered. The bus knows who is served now: this replica, or another one."""
        deliveries = list(self._unacknowledged.values())
        self._lost()
        for delivery in deliveries:
            with contextlib.suppress(nats.errors.Error):
                await delivery.again(self._client, after_s)

    async def _work(self) -> None:
        patience = Patience(Trouble("projector stopped writing", "projector writes again"), every_s=RETRY_S)
        while True:
            end_if_cancelled()
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
            except (Superseded, NotStored, *OF_THE_BUS) as problem:
                await self._hand_back(after_s=RETRY_S)
                await patience.failed(problem)
            else:
                if self.owner:
                    patience.worked()

    async def _step(self) -> None:
        """Bring FEED up to the fold, and acknowledge the commits that are in it."""
        if self._published is None:
            if not self._unacknowledged:
                return
            await self._take_over(self._pin)
        await self._write_from(self._pending.urgent)
        await self._write_from(self._pending.bulk)
        if self._pending:
            self._wake.set()

    async def _take_over(self, pin: str) -> None:
        claimed = await self._writer.claim(Claim(pin=pin, holder=self._consumer.connection))
        self._beacons.begin()
        found = await self._reader.read(claimed)
        await self._facts.known()
        await self._last_words.known()
        await self._agents_known.wait()
        await self._fold.wait_for(found.newest)
        if self._pin != pin:
            raise Superseded
        for (account, route), names in found.resolutions.items():
            self._facts.keep(account, route, names)
        for (account, peer), shown in found.presences.items():
            self._last_words.keep(account, peer, shown)
        self._published = found.published  # `_mark` collects from here on
        _owner.set(1)
        log.info("projector took over", documents=found.documents, revision=found.newest)
        for account, known in found.published.units():
            await self._mark_slowly(account, known)
        for account, state in list(self._fold.intent.accounts.items()):
            await self._mark_slowly(account, list(units(state)))

    async def _mark_slowly(self, account: str, every: Collection[Unit]) -> None:
        left = iter(every)
        while some := list(islice(left, MARKED_AT_ONCE)):
            self._mark(account, some, 0)
            await asyncio.sleep(0)

    async def _write_from(self, lane: Lane) -> None:
        """Write about a batch; of the bulk only a slice when something small waits, so that neither waits for ever."""
        published, writes = self._published, list[FeedWrite]()
        until = time.perf_counter() + TURN_S
        while lane and len(writes) < ENOUGH and time.perf_counter() < until:
            if published is None or self._published is not published:
                raise Superseded
            writes += self._slice(published, lane)
            await asyncio.sleep(0)
            if lane is self._pending.bulk and self._pending.urgent:
                break
        if not self._pending and published is not None:
            for account in published.unreadable():
                writes += self._stamped(account, published.update(account, {}))
        since = self._pending.since
        done_before = self._fold.sequence + 1 if since is None else since
        if self._published is not published:
            raise Superseded
        await self._writer.write(writes)
        _writes.inc(len(writes))
        await self._acknowledge(done_before)

    async def _acknowledge(self, before: int) -> None:
        newest = max(self._unacknowledged, default=0)
        done = [s for s in self._unacknowledged if s < before and s < newest]
        for delivery in [self._unacknowledged.pop(sequence) for sequence in done]:
            await delivery.acknowledge(self._client)

    def _slice(self, published: Published, lane: Lane) -> list[FeedWrite]:
        """The writes of a slice of the lane. It awaits nothing, so that all of them come from one state."""
        writes: list[FeedWrite] = []
        until = time.perf_counter() + SLICE_S
        while len(writes) < ENOUGH and time.perf_counter() < until and (look := lane.take()):
            desired = self._documents(look.account, look.unit)
            found = look_at(published, lane, look, desired)
            if look.unit.kind == PRESENCE.name:
                self._standings.found(look.account, look.unit.id, desired, len(found))
            writes += self._stamped(look.account, found)
        return writes

    def _stamped(self, account: str, writes: list[Write]) -> list[FeedWrite]:
        state = self._fold.intent.accounts.get(account)
        revision = state.revision if state else self._fold.sequence
        return [(key, FeedMessage(revision, document)) for key, document in writes]

    def _documents(self, account: str, unit: Unit) -> Documents:
        state = self._fold.intent.accounts.get(account)
        if state is None:
            return {}
        observed = Observed(self._facts.resolutions(account), self._last_words.of(account))
        return unit_documents(state, observed, self._indexes[account], unit)

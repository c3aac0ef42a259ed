"""The paths to other peers, driven: reads the device, tries endpoints, and introduces this host."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from services.agent.cells import Watch, since
from services.agent.core.documents import Documents
from services.agent.core.paths.candidates import local_endpoints
from services.agent.core.paths.pathbook import PathBook, Reset, Send
from services.agent.core.paths.whereabouts import Whereabouts, told, tunnel_moved
from services.agent.ports import Introductions, WireGuardDriver
from services.agent.situation import Addresses, Situation, Tunnels
from shared.events.signals import Candidates
from shared.tasks import end_if_cancelled

APART_S = 0.01

log = structlog.get_logger()

LOCATE_APART_S = 0.1
"""Between two looks at addresses that keep changing; the first change is looked at at once."""

LOCATE_AGAIN_S = 1.0
"""After a look that failed: the kernel tells of a change once."""


class Paths:
    """Keeps the path book in step with documents, addresses and device, and says in `tunnels` what it asks for.

    whereabouts: of this host, with the ways to the addresses given; raises OSError. bus: the addresses of the bus, as
    far as they are known.
    """

    def __init__(
        self,
        situation: Situation,
        book: PathBook,
        signals: Introductions,
        device: WireGuardDriver,
        whereabouts: Callable[[Iterable[str]], Whereabouts],
        bus: Callable[[], Iterable[str]],
    ) -> None:
        self._situation = situation
        self._book = book
        self._signals = signals
        self._device = device
        self._whereabouts = whereabouts
        self._bus = bus
        self._watch = Watch(situation.documents, situation.bus, situation.dirty)
        self._numbers = itertools.count(1)
        self._documents: Documents | None = None
        self._sessions = 0
        self._dirty = situation.dirty.value
        self._overlay: tuple[str, ...] | None = None
        self._locate_at: float | None = None
        self._located_at = float("-inf")
        self._to_move = False
        self._departed = False

    def hear(self, sender: str, candidates: Candidates) -> None:
        """Take the word of another peer on where it may be reached."""
        if self._book.receive(sender, candidates, time.monotonic()):
            self._watch.wake()

    async def begin(self, endpoints: Mapping[str, str]) -> None:
        """Take up where the last run ended, before anything else goes on. endpoints: that worked, by peer id."""
        self.follow()
        if self._overlay is None:
            self.locate()
        stats = await self._device.stats()
        self._situation.counters.set(stats)
        self._book.recall(endpoints, stats, time.monotonic(), time.time())
        self._ask_for(())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            self._watch.catch_up()
            await self.step()
            await asyncio.sleep(APART_S)
            await self._watch.wait(self._rest_s())

    async def step(self) -> None:
        """Take what changed, read the device once, and do what is due."""
        self.follow()
        if self._to_move:
            self._to_move = False
            await self._device.move()
        stats = await self._device.stats()
        self._situation.counters.set(stats)
        now = time.monotonic()
        self._book.observe(stats, now, time.time())
        self._book.advance(now)
        actions = self._book.take(now)
        self._ask_for(action.public_key for action in actions if isinstance(action, Reset))
        for action in actions:
            if isinstance(action, Send):
                await self._introduce(action)

    def follow(self) -> None:
        """Take what changed in the situation: the peers, the bus, and where this host is."""
        self._follow_documents()
        self._follow_bus()
        kinds = since(self._dirty, self._situation.dirty.value)
        self._dirty = self._situation.dirty.value
        self._departed = self._departed or "departed" in kinds
        if "addresses" in kinds and self._locate_at is None:
            self._locate_at = max(time.monotonic(), self._located_at + LOCATE_APART_S)
        if self._locate_at is not None and self._locate_at <= time.monotonic():
            self.locate()

    def locate(self) -> None:
        """Find out where this host may be reached, and whether packets have to leave otherwise than before."""
        self._locate_at, self._located_at = None, time.monotonic()
        peers = self._book.remotes()
        try:
            where = self._whereabouts((*self._bus(), *peers))
        except OSError as problem:
            log.warning("cannot read this host's addresses", problem=str(problem))
            self._locate_at = time.monotonic() + LOCATE_AGAIN_S
            return
        overlay, local = self._overlay or (), self._situation.local
        former = self._situation.addresses.value
        now = Addresses(where=where, told=told(where, interface=local.interface, overlay=overlay))
        addresses = now.told.addresses
        gone = self._departed or not set(former.told.addresses) <= set(addresses)
        self._departed = False
        self._to_move = self._to_move or tunnel_moved(former.where, where, gone, peers)
        self._situation.addresses.set(now)
        endpoints = local_endpoints(addresses, local.listen_port)
        self._book.set_local(endpoints, time.monotonic(), addresses=addresses, overlay=overlay)

    def _follow_documents(self) -> None:
        documents = self._situation.documents.value
        if documents is None or documents is self._documents:
            return
        self._documents = documents
        self._book.set_peers({peer.peer_id: peer.wireguard_key for peer in documents.peers.values()}, time.monotonic())
        settings = documents.settings
        overlay = (settings.overlay_v4, settings.overlay_v6) if settings else ()
        if overlay != self._overlay:
            self._overlay = overlay
            self.locate()

    def _follow_bus(self) -> None:
        """A new session is a way to other hosts again, and the addresses of the bus may be other ones."""
        sessions = self._situation.bus.value.sessions
        if sessions != self._sessions:
            self._sessions = sessions
            self.locate()
            self._book.reconnected(time.monotonic())

    def _ask_for(self, resets: Iterable[str]) -> None:
        """Have the device follow the book. resets: public keys of the peers to add anew."""
        keys, former = self._book.keys(), self._situation.tunnels.value
        known = frozenset(keys.values())
        numbers = {key: number for key, number in former.resets.items() if key in known}
        numbers |= {key: next(self._numbers) for key in resets}
        now = Tunnels(
            endpoints={keys[peer_id]: endpoint for peer_id, endpoint in self._book.endpoints().items()},
            connected=frozenset(keys[peer_id] for peer_id in self._book.connected()),
            resets=numbers,
        )
        if now != former:
            self._situation.tunnels.set(now)

    async def _introduce(self, action: Send) -> None:
        book = self._book
        said = await self._signals.introduce(
            action.peer_id, book.local_endpoints, generation=book.generation, answer_wanted=action.answer_wanted
        )
        if not said:
            book.unsent(action.peer_id)

    def _rest_s(self) -> float:
        due = [at for at in (self._book.next_deadline(), self._locate_at) if at is not None]
        return max(0.0, min([self._book.stats_interval_s, *(at - time.monotonic() for at in due)]))

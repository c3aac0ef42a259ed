"""The paths to other peers, driven: reads the device, tries endpoints, and introduces this host."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats
from services.agent.core.paths.candidates import local_endpoints
from services.agent.core.paths.pathbook import PathBook, Reset, Send
from services.agent.core.paths.whereabouts import Told, Whereabouts, told, tunnel_moved
from services.agent.core.reconcile.desired import Local
from shared.tasks import end_if_cancelled

APART_S = 0.01

log = structlog.get_logger()

LOCATE_APART_S = 0.1
"""Between two looks at addresses that keep changing; the first change is looked at at once."""

Introduce = Callable[[str, bool], Awaitable[bool]]
"""Takes a peer id and whether its endpoints are asked for; gives whether there was a bus to say it on."""

Moved = Callable[[Whereabouts, Whereabouts], None]
"""Takes what was read before of this host, and what is read now."""


class Paths:
    """Carries out what `book` decides.

    host: whose interface and port they are. whereabouts: of this host, with the ways to the addresses given; raises
    OSError. move: makes WireGuard send from the addresses there are. moved: called when this host's addresses were
    read. changed: called when a peer connected, was lost, or gets another endpoint. told: what other hosts are told.
    """

    def __init__(
        self,
        book: PathBook,
        host: Local,
        whereabouts: Callable[[Iterable[str]], Whereabouts],
        stats: Callable[[], Awaitable[Mapping[str, PeerStats]]],
        introduce: Introduce,
        move: Callable[[], Awaitable[None]],
        moved: Moved,
        reset: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._book = book
        self._host = host
        self._whereabouts = whereabouts
        self._stats = stats
        self._introduce = introduce
        self._move = move
        self._moved = moved
        self._reset = reset
        self._changed = changed
        self._wake = asyncio.Event()
        self._overlay: tuple[str, ...] | None = None
        self._where = Whereabouts()
        self._locate_at: float | None = None
        self._located_at = float("-inf")
        self._to_move = False
        self.told = Told()

    def wake(self) -> None:
        """The book heard something."""
        self._wake.set()

    def reconnected(self) -> None:
        """The bus is there again, and with it a way to other hosts."""
        self._book.reconnected(time.monotonic())
        self._wake.set()

    def follow(self, documents: Documents) -> None:
        """The book has the peers of these documents."""
        settings = documents.settings
        overlay = (settings.overlay_v4, settings.overlay_v6) if settings else ()
        if overlay != self._overlay:
            self._overlay = overlay
            self.locate()
        due = self._book.next_deadline()
        if due is not None and due <= time.monotonic():
            self._wake.set()

    def disturbed(self) -> None:
        """This host's addresses or default routes may be other ones."""
        if self._locate_at is None:
            self._locate_at = max(time.monotonic(), self._located_at + LOCATE_APART_S)
        self._wake.set()

    def locate(self) -> None:
        """Find out where this host may be reached, and whether packets have to leave otherwise than before."""
        self._locate_at, self._located_at = None, time.monotonic()
        peers = self._book.remotes()
        try:
            where = self._whereabouts(peers)
        except OSError as problem:
            log.warning("cannot read this host's addresses", problem=str(problem))
            return
        overlay = self._overlay or ()
        before, self._where = self._where, where
        former = self.told
        self.told = told(where, interface=self._host.interface, overlay=overlay)
        addresses = self.told.addresses
        endpoints = local_endpoints(addresses, self._host.listen_port)
        gone = not set(former.addresses) <= set(addresses)
        self._to_move = self._to_move or tunnel_moved(before, where, gone, peers)
        self._moved(before, where)
        self._book.set_local(endpoints, time.monotonic(), addresses=addresses, overlay=overlay)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            self._wake.clear()
            await self.step()
            await asyncio.sleep(APART_S)
            try:
                async with asyncio.timeout(self._rest()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Read the device once, and do what is due."""
        if self._locate_at is not None and self._locate_at <= time.monotonic():
            self.locate()
        if self._to_move:
            self._to_move = False
            await self._move()
        before = self._book.connected(), self._book.endpoints()
        stats = await self._stats()
        now = time.monotonic()
        self._book.observe(stats, now, time.time())
        self._book.advance(now)
        for action in self._book.take(now):
            match action:
                case Reset():
                    self._reset(action.public_key)
                case Send():
                    if not await self._introduce(action.peer_id, action.answer_wanted):
                        self._book.unsent(action.peer_id)
        if before != (self._book.connected(), self._book.endpoints()):
            self._changed()

    def _rest(self) -> float:
        due = [at for at in (self._book.next_deadline(), self._locate_at) if at is not None]
        return max(0.0, min([self._book.stats_interval_s, *(at - time.monotonic() for at in due)]))

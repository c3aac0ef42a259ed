"""Keeps the last good picture on disk, off the hot path: at most once a second, and when the agent stops."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from services.agent.core.documents import FeedView
from services.agent.core.kernel import PeerStats
from services.agent.core.paths.pathbook import PathBook
from services.agent.state.remembered import Picture, Remembered
from shared.events.signals import Candidates
from shared.tasks import end_if_cancelled

DEBOUNCE_S = 1.0
TRY_AGAIN_S = 5.0
"""After a disk took nothing."""

LAST_RUN = "0000000000"
"""The signal session of endpoints that were kept on disk; a peer's own session replaces it."""

log = structlog.get_logger()


class LastGoodKeeper:
    """Writes what `take` gives some time after `changed`."""

    def __init__(self, file: Remembered[Picture], take: Callable[[], Picture]) -> None:
        self._file = file
        self._take = take
        self._changed = asyncio.Event()
        self._kept = True

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; `keep` then writes what is still to be written."""
        while True:
            end_if_cancelled()
            await self._changed.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._changed.clear()
            if not await asyncio.to_thread(self._write, self._take()):
                self._changed.set()
                await asyncio.sleep(TRY_AGAIN_S)

    def keep(self) -> None:
        """Write now."""
        self._write(self._take())

    def _write(self, picture: Picture) -> bool:
        """Whether it is kept. Trouble and its end are told once."""
        before, self._kept = self._kept, False
        try:
            self._file.keep(picture)
            self._kept = True
        except OSError as problem:
            if before:
                log.warning("cannot keep the last good state on disk, going on trying", problem=str(problem))
        if self._kept and not before:
            log.info("the last good state is kept on disk again")
        return self._kept


def taken(view: FeedView, book: PathBook, former: Picture, bus: Mapping[str, tuple[str, ...]]) -> Picture:
    """The picture now. Peers that are not connected keep the endpoint of the former picture. bus: see Picture."""
    endpoints = {
        peer: path.endpoint if path.word == "Connected" and path.endpoint else former.endpoints.get(peer, "")
        for peer, path in book.statuses().items()
    }
    kept = {peer: endpoint for peer, endpoint in endpoints.items() if endpoint}
    return Picture(feed=view.export(), endpoints=kept, bus=dict(bus))


def recall(picture: Picture, book: PathBook, stats: Mapping[str, PeerStats], now: float, wall: float) -> None:
    """Take up where the last run ended: sessions that still stand, then endpoints that worked.

    stats: of the device, which may have outlived the last run. now: monotonic, wall: unix seconds.
    """
    book.observe(stats, now, wall)
    for peer, endpoint in picture.endpoints.items():
        heard = Candidates(session=LAST_RUN, generation=0, endpoints=(endpoint,), answer_wanted=False, sent_at=wall)
        book.receive(peer, heard, now)

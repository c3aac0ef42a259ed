"""Keeps the last good picture on disk, off the hot path: at most once a second, and when the agent stops."""

import asyncio
from collections.abc import Mapping

import structlog

from services.agent.cells import Watch
from services.agent.core.documents import FeedView
from services.agent.core.paths.pathbook import PathBook
from services.agent.situation import Situation
from services.agent.state.statefile import Picture, StateFile
from shared.tasks import end_if_cancelled

DEBOUNCE_S = 1.0
TRY_AGAIN_S = 5.0
"""After a disk took nothing."""

log = structlog.get_logger()


class LastGoodKeeper:
    """Writes the picture some time after the feed, the bus or a path changed.

    view, book: what the picture is of. bus: the addresses of the bus, see Picture.
    """

    def __init__(
        self,
        situation: Situation,
        file: StateFile[Picture],
        view: FeedView,
        book: PathBook,
        bus: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._situation = situation
        self._file = file
        self._view = view
        self._book = book
        self._bus = bus
        self._watch = Watch(situation.documents, situation.bus, situation.tunnels)
        self._kept = True

    async def run(self) -> None:
        """Until cancelled; `keep` then writes what is still to be written."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._watch.catch_up()
            if not await asyncio.to_thread(self._write, self._picture()):
                self._watch.wake()
                await asyncio.sleep(TRY_AGAIN_S)

    def keep(self) -> None:
        """Write now."""
        self._write(self._picture())

    def _picture(self) -> Picture:
        """What shall be on disk: nothing of what a banished host was once told."""
        if self._situation.bus.value.standing == "refused":
            return Picture()
        return taken(self._view, self._book, self._file.value, self._bus)

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

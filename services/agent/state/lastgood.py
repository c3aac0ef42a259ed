"""Keeps the last good picture on disk, off the hot path: at most once a second, and when the agent stops."""

import asyncio
from collections.abc import Callable

import structlog

from services.agent.state.remembered import Picture, Remembered

DEBOUNCE_S = 1.0

log = structlog.get_logger()


class LastGoodKeeper:
    """Writes what `take` gives some time after `changed`."""

    def __init__(self, file: Remembered[Picture], take: Callable[[], Picture]) -> None:
        self._file = file
        self._take = take
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; `keep` then writes what is still to be written."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._changed.clear()
            await asyncio.to_thread(self._write, self._take())

    def keep(self) -> None:
        """Write now."""
        self._write(self._take())

    def _write(self, picture: Picture) -> None:
        try:
            self._file.keep(picture)
        except OSError as problem:
            log.warning("cannot keep the last good state on disk", problem=str(problem))

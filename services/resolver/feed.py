"""Route documents out of the feed."""

import asyncio
import time
from collections.abc import Callable

from services.resolver.core.resolutions import Resolutions
from services.resolver.core.routes import WITHDRAW_AFTER_S, RouteBook
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import FeedMessage
from shared.events.subjects import BadSubject
from shared.tasks import end_if_cancelled


class Feed:
    """Keeps the resolutions' routes equal to the feed's. Reads it as shared.bus.lastvalues.Reader.

    changed: called after a route changed, when the resolutions have it.
    """

    def __init__(
        self,
        resolutions: Resolutions,
        undecodables: Undecodables,
        changed: Callable[[], None],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._book = RouteBook()
        self._resolutions = resolutions
        self._undecodables = undecodables
        self._changed = changed
        self._wall = wall
        self._read_whole = asyncio.Event()
        self.known = False
        """Whether the feed was read whole."""

    def begin(self) -> None:
        self.known = False
        self._book.begin()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_feed(subject)
            message = decode(subject, data, FeedMessage)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.FEED_ROUTES, problem)
            return
        self._book.apply(key, message)
        if self.known:
            self._pass_on()

    def caught_up(self) -> None:
        self.known = True
        self._read_whole.set()
        self._pass_on()

    async def withdraw(self) -> None:
        """Give up what a reading did not bring a while after it, for ever."""
        while True:
            end_if_cancelled()
            await self._read_whole.wait()
            self._read_whole.clear()
            await asyncio.sleep(WITHDRAW_AFTER_S)
            if self.known:
                self._book.withdraw()
                self._resolutions.all_routes_known()
                self._pass_on()

    def _pass_on(self) -> None:
        for route, change in self._book.take():
            self._resolutions.route(route, change, self._wall())
        self._changed()

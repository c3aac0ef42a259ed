"""Asks the kernel after changes whether it follows our routes."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from services.agent.core.kernel import RouteEntry
from services.agent.core.routing.following import address_in, unfollowed
from services.agent.ports import WaysDriver
from shared.tasks import end_if_cancelled

APART_S = 1.0
LIMIT = 4096
"""Prefixes asked about at once, in 40 ms; of more than that the first ones by address."""

log = structlog.get_logger()


class Following:
    """routes: those the kernel holds. told: takes what is not followed, prefix → reason, whenever that differs."""

    def __init__(
        self,
        ways: WaysDriver,
        routes: Callable[[], Mapping[str, RouteEntry]],
        told: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._ways = ways
        self._routes = routes
        self._told = told
        self._asked: Mapping[str, RouteEntry] = {}
        self._known: Mapping[str, str] = {}
        self._wake = asyncio.Event()

    def passed(self) -> None:
        """The loop has gone round."""
        if self._routes() != self._asked:
            self._wake.set()

    def disturbed(self) -> None:
        """Routes, rules or links of the host are different."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._wake.wait()
            self._wake.clear()
            await self._look()
            await asyncio.sleep(APART_S)

    async def _look(self) -> None:
        self._asked = self._routes()
        asked = sorted(prefix for prefix, route in self._asked.items() if not route.unreachable)[:LIMIT]
        try:
            answers = await self._ways.ask({prefix: address_in(prefix) for prefix in asked})
            found = unfollowed(self._asked, answers, self._ways.others() if answers else ())
        except OSError as problem:
            log.warning("the kernel does not say where packets go, asking again", problem=str(problem))
            self._wake.set()
            return
        for prefix in found.keys() - self._known.keys():
            log.warning("the kernel does not follow a route", prefix=prefix, reason=found[prefix])
        if found != self._known:
            self._known = found
            self._told(found)

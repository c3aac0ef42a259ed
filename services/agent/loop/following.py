"""Asks the kernel after changes whether it follows our routes."""

import asyncio
from collections.abc import Mapping

import structlog

from services.agent.cells import Watch, since
from services.agent.core.kernel import RouteEntry
from services.agent.core.reconcile.steps import Kind
from services.agent.core.routing.following import address_in, unfollowed
from services.agent.ports import HostChange, WaysDriver
from services.agent.situation import Situation
from shared.bus.patience import Trouble
from shared.tasks import end_if_cancelled

APART_S = 1.0
LIMIT = 4096
"""Prefixes asked about at once, in 40 ms; of more than that the first ones by address."""

DECIDING: frozenset[Kind | HostChange] = frozenset({"addresses", "link", "rule", "route", "ways"})
"""What decides where the kernel sends packets."""

log = structlog.get_logger()


class Following:
    """Keeps `unfollowed` true for the routes of the last pass."""

    def __init__(self, situation: Situation, ways: WaysDriver) -> None:
        self._situation = situation
        self._ways = ways
        self._asked: Mapping[str, RouteEntry] = {}
        self._dirty = situation.dirty.value
        self._watch = Watch(situation.passed, situation.dirty)
        self._trouble = Trouble("the kernel does not say where packets go", "the kernel says again where packets go")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            if self._is_in_doubt():
                await self._look()
                await asyncio.sleep(APART_S)

    def _is_in_doubt(self) -> bool:
        kinds = since(self._dirty, self._situation.dirty.value)
        self._dirty = self._situation.dirty.value
        return bool(kinds & DECIDING) or self._situation.passed.value.desired.routes != self._asked

    async def _look(self) -> None:
        self._asked = self._situation.passed.value.desired.routes
        asked = sorted(prefix for prefix, route in self._asked.items() if not route.unreachable)[:LIMIT]
        try:
            answers = await self._ways.ask({prefix: address_in(prefix) for prefix in asked})
            found = unfollowed(self._asked, answers, self._ways.others() if answers else ())
        except OSError as problem:
            self._trouble.tell(problem)
            self._asked = {}
            self._watch.wake()
            return
        self._trouble.over()
        known = self._situation.unfollowed.value
        for prefix in found.keys() - known.keys():
            log.warning("the kernel does not follow a route", prefix=prefix, reason=found[prefix])
        if found != known:
            self._situation.unfollowed.set(found)

"""Before a routing peer stops: its clients are asked to leave, and it waits until nothing comes from them any more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from services.agent.core.ha.draining import forwarded, is_replaceable
from services.agent.core.kernel import Count, RuleName
from services.agent.situation import Situation
from shared.bus.patience import Trouble
from shared.tasks import end_if_cancelled

AT_LEAST_S = 1.0
"""The word goes to management, from there to the clients, and these wait for a moment that breaks no connection."""
QUIET_S = 0.5
LOOK_EVERY_S = 0.05

log = structlog.get_logger()


class Draining:
    """counts: what each rule of the nftables table has decided about by now."""

    def __init__(self, situation: Situation, counts: Callable[[], Awaitable[Mapping[RuleName, Count]]]) -> None:
        self._situation = situation
        self._counts = counts
        self._uncounted = Trouble("what clients send is not counted, and nobody is waited for any longer")

    async def run(self, within_s: float) -> None:
        """Have the clients leave, and come back when they have, or after so many seconds.

        At once where this host serves nothing that another one serves too, or has no bus to say it on.
        """
        situation = self._situation
        passed = situation.passed.value
        if situation.bus.value.standing != "connected":
            return
        if not is_replaceable(passed.documents, passed.desired.served):
            return
        log.info("clients are asked to leave", within_s=within_s)
        situation.draining.set(True)
        began = quiet_since = time.monotonic()
        count = await self._forwarded()
        while (now := time.monotonic()) - began < within_s:
            end_if_cancelled()
            if now - began >= AT_LEAST_S and now - quiet_since >= QUIET_S:
                log.info("clients have left", after_s=round(now - began, 2))
                return
            await asyncio.sleep(LOOK_EVERY_S)
            if (newer := await self._forwarded()) != count:
                count, quiet_since = newer, time.monotonic()
        log.warning("clients still send here: stopping all the same", after_s=within_s)

    async def _forwarded(self) -> int:
        """How many packets were let through; -1 where the kernel does not say so."""
        ruleset = self._situation.passed.value.desired.ruleset
        try:
            return forwarded(ruleset, await self._counts()) if ruleset is not None else 0
        except OSError as problem:
            self._uncounted.tell(problem)
            return -1

"""Whom this host asks by itself."""

import asyncio

from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.ports import HostDnsDriver
from services.agent.situation import Situation
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 2.0
"""Another network gives other servers; nobody tells of it in the same way on every host."""


class HostDns:
    """Keeps the cell `host_dns`."""

    def __init__(self, situation: Situation, driver: HostDnsDriver) -> None:
        self._situation = situation
        self._driver = driver

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            try:
                own = await self._driver.own()
            except OSError:
                own = ResolvConf()
            if own != self._situation.host_dns.value:
                self._situation.host_dns.set(own)
            await asyncio.sleep(LOOK_EVERY_S)

"""Has programs of this host ask its resolver, and knows whom they asked before."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.agent.cells import Watch
from services.agent.core.dns.hostdns import Mechanism, Wanted, wanted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.ports import HostDnsDriver
from services.agent.situation import HostNames, Situation
from shared.bus.patience import Trouble
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 1.0
"""Another network gives other servers, another program writes the file: nobody tells of it alike on every host."""

REPAIRS = 5
REPAIRS_WITHIN_S = 60.0
"""A program that writes the file more often than this is not argued with for as long."""

TIRED = "another program writes the DNS of this host again and again: stop one of the two"

log = structlog.get_logger()


class HostDns:
    """Keeps the cells `host_dns` and `host_names`. choose: finds out what keeps the DNS of this host."""

    def __init__(self, situation: Situation, choose: Callable[[], Awaitable[HostDnsDriver]]) -> None:
        self._situation = situation
        self._choose = choose
        self._watch = Watch(situation.dns)
        self._driver: HostDnsDriver | None = None
        self._applied: Wanted | None = None
        self._repairs: list[float] = []
        self._ended = False
        self._trouble = Trouble("the DNS of this host cannot be set", "the DNS of this host is set again")

    async def begin(self) -> None:
        """Put back what a former run left: nobody answers there now, and the bus may have to be found by name."""
        try:
            self._driver = await self._choose()
        except OSError as problem:
            self._tell("none", str(problem.strerror or problem))
        await self._revert()

    async def run(self) -> None:
        """Until cancelled, or until it is ended."""
        while not self._ended:
            end_if_cancelled()
            try:
                await self._look()
                self._trouble.over()
            except OSError as problem:
                self._trouble.tell(problem)
                self._tell(self._situation.host_names.value.mechanism, str(problem.strerror or problem))
            await self._watch.wait(LOOK_EVERY_S)

    async def end(self) -> None:
        """Put back what was there before; to do so twice changes nothing."""
        self._ended = True
        await self._revert()

    async def _look(self) -> None:
        driver = self._driver or await self._choose()
        self._driver = driver
        dns = self._situation.dns.value
        self._know(await driver.own())
        asked, problem = wanted(dns.address, dns.rules), driver.limit
        if asked is None:
            if self._applied is not None:
                await driver.revert()
        elif self._is_tired():
            problem = TIRED
        elif await driver.apply(asked) and asked == self._applied:
            self._repairs.append(self._now())
            log.warning("somebody changed the DNS of this host, repaired", mechanism=driver.name)
        self._applied = asked
        self._tell(driver.name, problem)

    def _is_tired(self) -> bool:
        self._repairs = [at for at in self._repairs if self._now() - at < REPAIRS_WITHIN_S]
        return len(self._repairs) >= REPAIRS

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _revert(self) -> None:
        if self._driver is not None:
            try:
                await self._driver.revert()
            except OSError as problem:
                log.warning("the DNS of this host cannot be put back", problem=str(problem.strerror or problem))

    def _know(self, own: ResolvConf) -> None:
        if own != self._situation.host_dns.value:
            self._situation.host_dns.set(own)

    def _tell(self, mechanism: Mechanism, problem: str) -> None:
        told = HostNames(mechanism=mechanism, problem=problem)
        if told != self._situation.host_names.value:
            self._situation.host_names.set(told)

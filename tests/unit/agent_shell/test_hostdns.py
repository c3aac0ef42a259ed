"""When programs of the host are told to ask its resolver, and when not; the mechanism is in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.agent.core.dns.hostdns import Mechanism, Wanted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.core.dns.rules import Rules, Terms
from services.agent.core.reconcile.desired import Local
from services.agent.dns.hostdns import TIRED, HostDns
from services.agent.ports import HostDnsDriver
from services.agent.situation import Dns, Situation
from tests.support.bus import eventually
from tests.unit.agent.make import me, settings

RULES = Rules(Terms(me=me(), settings=settings()))
ANSWERING = Dns(address="100.64.0.1", rules=RULES)


class Mechanisms:
    """told: what programs are told now. others: another program changes it before each look. problem: it refuses."""

    name: Mechanism = "file"
    limit = ""

    def __init__(self) -> None:
        self.told: Wanted | None = Wanted(server="left by a former run")
        self.servers: tuple[str, ...] = ("192.0.2.53",)
        self.others = False
        self.problem = ""

    async def own(self) -> ResolvConf:
        return ResolvConf(servers=self.servers)

    async def apply(self, wanted: Wanted) -> bool:
        if self.problem:
            raise OSError(30, self.problem)
        self.told = wanted
        return self.others

    async def revert(self) -> None:
        self.told = None


class Host:
    def __init__(self) -> None:
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.mechanism = Mechanisms()
        self.dns = HostDns(self.situation, self._choose)
        self.running: asyncio.Task[None] | None = None

    async def _choose(self) -> HostDnsDriver:
        return self.mechanism

    async def look(self) -> None:
        """Have it look once more than it does by itself."""
        self.situation.dns.set(self.situation.dns.value)
        await asyncio.sleep(0)

    @property
    def problem(self) -> str:
        return self.situation.host_names.value.problem


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    found = Host()
    await found.dns.begin()
    found.running = asyncio.create_task(found.dns.run())
    yield found
    found.running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await found.running


async def test_a_start_begins_by_putting_back_what_a_former_run_left(host: Host) -> None:
    assert host.mechanism.told is None
    await eventually(lambda: host.situation.host_dns.value.servers == ("192.0.2.53",))
    assert host.mechanism.told is None


async def test_programs_are_told_while_somebody_answers_and_no_longer(host: Host) -> None:
    host.situation.dns.set(ANSWERING)
    await eventually(
        lambda: host.mechanism.told == Wanted(server="100.64.0.1", domains=RULES.domains, search=RULES.search)
    )
    host.situation.dns.set(Dns(rules=RULES))
    await eventually(lambda: host.mechanism.told is None)


async def test_other_servers_of_the_host_are_known_within_seconds(host: Host) -> None:
    host.situation.dns.set(ANSWERING)
    host.mechanism.servers = ("198.51.100.1", ANSWERING.address)
    await eventually(lambda: host.situation.host_dns.value.servers == host.mechanism.servers)


async def test_after_the_end_nothing_is_told_any_more(host: Host) -> None:
    host.situation.dns.set(ANSWERING)
    await eventually(lambda: host.mechanism.told is not None)
    await host.dns.end()
    host.situation.dns.set(Dns(address="127.0.0.1", rules=RULES))
    assert host.running is not None
    await host.running
    assert host.mechanism.told is None


async def test_a_mechanism_that_refuses_is_said_and_tried_again(host: Host) -> None:
    host.mechanism.problem = "Read-only file system"
    host.situation.dns.set(ANSWERING)
    await eventually(lambda: host.problem == "Read-only file system")
    host.mechanism.problem = ""
    await eventually(lambda: host.mechanism.told is not None and host.problem == "")


async def test_a_program_that_changes_it_again_and_again_is_not_argued_with(host: Host) -> None:
    host.mechanism.others = True
    host.situation.dns.set(ANSWERING)

    async def tired() -> bool:
        await host.look()
        return host.problem == TIRED

    await eventually(tired)
    host.mechanism.told = None
    await host.look()
    assert host.mechanism.told is None

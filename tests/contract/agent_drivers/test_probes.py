"""Probes over a real tunnel: the gateway's kernel answers those whom its ruleset lets ask, and no agent runs there."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.asking import Asking
from services.agent.core.documents import Documents
from services.agent.core.ha.echo import Echo
from services.agent.core.ha.standing import Health, Probed, Role, Verdict
from services.agent.core.ha.traffic import probe_bytes
from services.agent.core.kernel import CONTROL_MARK, PROBE_IDENTIFIER, Ruleset, WireGuardDevice, WireGuardPeer
from services.agent.core.reconcile.desired import desired
from services.agent.drivers import netlink
from services.agent.drivers.icmp import Icmp
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.wireguard.userspace import WireGuardGo
from services.agent.probes import Probes
from services.agent.situation import Situation, Tunnels
from shared.events.documents import RuleDoc
from tests.contract.agent_drivers.conftest import key, public
from tests.support.bus import eventually
from tests.support.netns import MakeHost
from tests.unit.agent import make
from tests.unit.agent.make import rule, served

pytestmark = pytest.mark.root

CLIENT, GATEWAY = {4: "100.64.0.11", 6: "fd00:64::b"}, {4: "100.64.0.1", 6: "fd00:64::1"}
UNDERLAY = {"client": "192.0.2.11", "gateway": "192.0.2.1"}
DROP_ALL = (rule("shut", action="drop"),)


class Hosts(NamedTuple):
    """A client and the gateway of a route, connected through their tunnel. Nothing but their kernels runs there."""

    client: Namespace
    gateway: Namespace


@pytest.fixture
def hosts(make_host: MakeHost) -> Hosts:
    made = Hosts(make_host(), make_host())
    connect(made.client, "eth0", made.gateway, "eth0")
    ends = {"client": (made.client, 1, CLIENT), "gateway": (made.gateway, 2, GATEWAY)}
    for name, (host, number, own) in ends.items():
        address(host, "eth0", f"{UNDERLAY[name]}/24")
        other = "gateway" if name == "client" else "client"
        there = WireGuardPeer(
            public_key=public(key(ends[other][1])),
            allowed_ips=frozenset((f"{ends[other][2][4]}/32", f"{ends[other][2][6]}/128")),
            endpoint=f"{UNDERLAY[other]}:51820",
        )
        host.call(asyncio.run, tunnel(number, there))
        address(host, "wt0", f"{own[4]}/16")
        address(host, "wt0", f"{own[6]}/64")
        host.ip("link", "set", "wt0", "up")
    return made


async def tunnel(number: int, other: WireGuardPeer) -> None:
    rtnl = Netlink(netlink.ROUTE)
    try:
        device = WireGuardGo(rtnl, "wt0", key(number))
        await device.create()
        wanted = WireGuardDevice(public_key=public(key(number)), listen_port=51820, fwmark=CONTROL_MARK)
        assert await device.configure(wanted) is None
        assert await device.upsert({other.public_key: other}) == {}
    finally:
        rtnl.close()


def filter_with(host: Namespace, documents: Documents, *withdrawn: str) -> None:
    want = desired(documents, make.local(withdrawn=frozenset(withdrawn))).ruleset
    assert want is not None
    assert host.call(asyncio.run, written(want)) is None


async def written(table: Ruleset) -> str | None:
    return await Nft().replace(table)  # which speaks to the kernel of the host that it is made on


def gateway_rules(*rules: RuleDoc, distribution: str = "office") -> Documents:
    alice = make.peer("alice", "office", v4=CLIENT[4], v6=CLIENT[6])
    route = served("r", by="gw", distribution=(distribution,))
    return make.documents(make.me("gw"), [alice], rules=rules, routes=[route])


def client_rules(*rules: RuleDoc) -> Documents:
    me = make.me("alice", "office", v4=CLIENT[4], v6=CLIENT[6])
    return make.documents(me, [make.peer("gw", v4=GATEWAY[4], v6=GATEWAY[6])], rules=rules, routes=[make.route("r")])


nothing_runs_for = time.sleep
"""What a suspended process does."""


class Client:
    """The part of an agent that probes, with the device's counters read as the agent reads them."""

    def __init__(self, version: int, identifier: int = PROBE_IDENTIFIER) -> None:
        self.situation = Situation(make.local())
        self._gateway = public(key(2))
        self._version = version
        self._asking = Asking("gateway", identifier, Icmp(identifier, "wt0"))
        self._probes = Probes(self.situation, self._asking)
        self.role("in use")
        self.situation.tunnels.set(Tunnels(connected=frozenset((self._gateway,))))

    def role(self, role: Role) -> None:
        probed = Probed(public_key=self._gateway, address=GATEWAY[self._version], role=role)
        self.situation.probed.set({"gw": probed})

    @property
    def health(self) -> Health:
        return self.situation.health.value.get("gw", Health())

    @property
    def asked(self) -> int:
        return self._asking.asked.get("gw", 0)

    def has_asked_more_than(self, count: int) -> bool:
        return self.asked > count

    async def becomes(self, verdict: Verdict) -> None:
        await eventually(lambda: self.health.verdict == verdict, within_s=20.0)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        rtnl = Netlink(netlink.ROUTE)
        device = WireGuardGo(rtnl, "wt0", key(1))
        await device.create()

        async def count() -> None:
            while True:
                self.situation.counters.set(await device.stats())
                await asyncio.sleep(1.0)

        tasks = [asyncio.create_task(self._probes.run()), asyncio.create_task(count())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            rtnl.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_gateway_answers_its_clients_whatever_policies_drop_and_is_down_when_it_is_cut_off_g2(
    hosts: Hosts, version: int
) -> None:
    filter_with(hosts.gateway, gateway_rules(*DROP_ALL))
    filter_with(hosts.client, client_rules(*DROP_ALL))

    async def scene() -> None:
        client = Client(version)
        async with client.running():
            await client.becomes("up")
            await asyncio.to_thread(hosts.gateway.ip, "link", "set", "eth0", "down")
            await client.becomes("down")
            await asyncio.to_thread(hosts.gateway.ip, "link", "set", "eth0", "up")
            await client.becomes("up")

    hosts.client.call(asyncio.run, scene())


def test_who_is_given_none_of_its_routes_gets_no_answer(hosts: Hosts) -> None:
    """Another of its clients does: the gateway is there, and says so to those whom it concerns."""
    filter_with(hosts.client, client_rules())
    filter_with(hosts.gateway, gateway_rules(distribution="elsewhere"))

    async def scene() -> None:
        client = Client(4)
        async with client.running():
            await eventually(lambda: client.asked >= 2, within_s=20.0)
            assert client.health.verdict == "unknown"
            await asyncio.to_thread(filter_with, hosts.gateway, gateway_rules())
            await client.becomes("up")

    hosts.client.call(asyncio.run, scene())


@pytest.mark.parametrize("version", [4, 6])
def test_a_gateway_that_carries_nothing_for_a_client_refuses_its_probes_and_nothing_else_g3(
    hosts: Hosts, version: int
) -> None:
    allowed = gateway_rules(rule("ping", sources=["office"], protocol="icmp"))
    filter_with(hosts.client, client_rules())
    filter_with(hosts.gateway, allowed)

    async def scene() -> None:
        client = Client(version)
        async with client.running():
            await client.becomes("up")
            late = client.health.loss  # answers that a busy machine gave too late
            await asyncio.to_thread(filter_with, hosts.gateway, allowed, "r")
            await client.becomes("down")
            assert client.health.loss <= late, "it was told, and did not wait for answers that never come"
            person = Client(version, 4711)
            async with person.running():
                await person.becomes("up")
            await asyncio.to_thread(filter_with, hosts.gateway, allowed)
            await client.becomes("up")

    hosts.client.call(asyncio.run, scene())


def test_a_client_that_does_nothing_for_two_seconds_says_nothing_of_its_gateway(hosts: Hosts) -> None:
    filter_with(hosts.gateway, gateway_rules())
    filter_with(hosts.client, client_rules())

    async def scene() -> None:
        client = Client(4)
        async with client.running():
            await client.becomes("up")
            since = client.health.since
            for _ in range(2):
                nothing_runs_for(2.0)
                await eventually(partial(client.has_asked_more_than, client.asked), within_s=20.0)
            assert (client.health.verdict, client.health.since) == ("up", since)

    hosts.client.call(asyncio.run, scene())


@pytest.mark.parametrize("version", [4, 6])
def test_the_device_counts_for_a_probe_what_is_taken_off_for_it(hosts: Hosts, version: int) -> None:
    """So that none of them passes for somebody's packet."""
    filter_with(hosts.gateway, gateway_rules())

    async def scene() -> None:
        rtnl, icmp, echo = Netlink(netlink.ROUTE), Icmp(PROBE_IDENTIFIER, "wt0"), Echo(b"s" * 32, PROBE_IDENTIFIER)
        device = WireGuardGo(rtnl, "wt0", key(1))
        await device.create()

        async def sent() -> int:
            return (await device.stats())[public(key(2))].tx_bytes

        numbers = itertools.count(1)

        async def counts_what_is_taken_off() -> bool:
            """Unless a handshake or a keepalive came between."""
            expected = await sent() + 5 * probe_bytes(GATEWAY[version])
            for number in itertools.islice(numbers, 5):
                assert icmp.send(GATEWAY[version], echo.question(GATEWAY[version], number)) == ""

            async def has_sent() -> int:
                now = await sent()
                return now if now >= expected else 0

            seen: int = await eventually(has_sent)
            return seen == expected

        async def is_answered() -> bool:
            """The first questions may be asked before the link between the two hosts carries anything."""
            assert icmp.send(GATEWAY[version], echo.question(GATEWAY[version], next(numbers))) == ""
            await asyncio.sleep(0.1)
            return bool(icmp.read())

        try:
            await eventually(is_answered)  # there is a session
            await eventually(counts_what_is_taken_off)
        finally:
            icmp.close()
            rtnl.close()

    hosts.client.call(asyncio.run, scene())

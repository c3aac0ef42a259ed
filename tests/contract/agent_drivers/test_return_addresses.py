"""services/agent/holding.py on two gateways with real kernels in one LAN, and management's own decisions beside it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect, run
from services.agent.core.desired_state import Desired
from services.agent.core.firewall.returned import counting, returned
from services.agent.core.firewall.served import Served
from services.agent.core.kernel import Count, FloatingAddress, RuleName, Ruleset
from services.agent.core.paths.whereabouts import InterfaceAddress, Whereabouts
from services.agent.core.reconcile.desired import Local, desired
from services.agent.drivers import netlink
from services.agent.drivers.neighbours import Lans, Neighbours, received
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.rtnl_floating import FloatingAddresses
from services.agent.holding import Holdings
from services.agent.situation import Addresses, Bus, PassResult, Situation
from services.management.core.leases import NOBODY, decide, told
from shared.bus.codec import decode, encode
from shared.events.signals import LeaseRequest
from tests.contract.agent_drivers.test_neighbours import Lan
from tests.support.bus import eventually
from tests.support.netns import MakeHost
from tests.unit.agent import make
from tests.unit.agent.test_status import world

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ADDRESS = {"v4": "192.0.2.254", "v6": "2001:db8::fe"}
NETWORK = {"v4": "192.0.2.0/24", "v6": "2001:db8::/64"}


class Management:
    """The one lease there is."""

    def __init__(self) -> None:
        self.lease, self.number = NOBODY, 0
        self._changed = asyncio.Condition()
        self.is_there = True

    async def answer(self, peer: str, data: bytes) -> bytes | None:
        if not self.is_there:
            return None
        request = decode("lease", data, LeaseRequest)
        async with self._changed:
            after = decide(request, peer, self.lease, self.number, 0.0)
            if after is not None:
                self.lease, self.number = after, self.number + 1
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(4.0):
                    await self._changed.wait_for(lambda: request.wish != "watch" or self.number != request.known)
            return encode(replace(told(self.lease, self.number), candidates=("a", "b")))


class Gateway:
    """One agent's part. kernel: what the loop would do."""

    def __init__(self, name: str, host: Namespace, management: Management, family: str) -> None:
        self.name, self._host, self.management, self.clients = name, host, management, 0
        self.address = ADDRESS[family]
        self._rtnl = host.call(Netlink, netlink.ROUTE)
        self.situation = Situation(Local(public_key="", listen_port=1))
        route = make.served("lan", NETWORK[family], by=("a", "b"), return_address=self.address, masquerade=False)
        self.situation.documents.set(replace(world(route), self_doc=make.me(name)))
        last = {"a": 1, "b": 2}[name]
        own = (f"192.0.2.{last}/24", f"2001:db8::{last}/64", f"fe80::{last}/64")
        where = Whereabouts(addresses=tuple(InterfaceAddress(interface="eth0", address=text) for text in own))
        self.situation.addresses.set(Addresses(where=where))
        served = Served(
            route_id="lan", networks=(ip_network(NETWORK[family]),), masquerade=False, matches=(), returned=True
        )
        self._ruleset = Ruleset(chains=returned("wt0", [served]))
        self._running: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        self.situation.bus.set(Bus(standing="connected", sessions=1))
        self.holdings = Holdings(self.situation, self, self._ask, "acc", self.name)

    async def run(self) -> None:
        await self.holdings.begin()
        self._running = [asyncio.create_task(self.holdings.run()), asyncio.create_task(self._kernel())]

    async def kill(self) -> None:
        """Its kernel stays as it is."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running = []

    def close(self) -> None:
        self._rtnl.close()

    async def held(self) -> Mapping[str, FloatingAddress]:
        return self._host.call(asyncio.run, FloatingAddresses(self._rtnl).observe())

    def received(self, interface: str) -> int:
        return received(self._rtnl, interface)

    def sent_by_clients(self) -> Mapping[RuleName, Count]:
        return dict.fromkeys(counting(self._ruleset, {"lan"}), Count(packets=self.clients))

    async def is_sent_to(self) -> None:
        """Clients send through it, until cancelled."""
        while True:
            self.clients += 1
            await asyncio.sleep(0.02)

    def neighbours(self, interface: str, address: str, source: str) -> Neighbours:
        return self._host.call(Neighbours, interface, address, source)

    async def has_it(self) -> bool:
        return self.address in await self.held()

    async def _ask(self, subject: str, payload: bytes, within_s: float) -> bytes | None:
        assert subject == f"lease.acc.{self.name}"
        return await self.management.answer(self.name, payload)

    async def _kernel(self) -> None:
        driver = FloatingAddresses(self._rtnl)
        while True:
            wanted = self.situation.floating.value
            here = await self.held()
            self._host.call(asyncio.run, driver.delete(here.keys() - wanted.keys()))
            self._host.call(asyncio.run, driver.upsert({k: v for k, v in wanted.items() if here.get(k) != v}))
            local = self.situation.local
            now = Desired(floating=wanted, ruleset=self._ruleset)
            if self.situation.passed.value.desired != now:
                self.situation.passed.set(PassResult(local=local, desired=now))
            await asyncio.sleep(0.005)


async def asked(gateway: Gateway, times: int) -> None:
    """So many packets have come to it: the other one asks ten times a second, and its kernel answers."""
    until = gateway.received("eth0") + times
    await eventually(lambda: gateway.received("eth0") >= until, within_s=20.0)


@pytest.fixture(params=["v4", "v6"])
async def pair(request: pytest.FixtureRequest, make_host: MakeHost) -> AsyncIterator[tuple[Lan, Gateway, Gateway]]:
    lan, management = Lan(make_host), Management()
    a, b = (Gateway(name, getattr(lan, name), management, request.param) for name in ("a", "b"))
    for gateway in (a, b):
        await gateway.run()
    await eventually(a.has_it)
    yield lan, a, b
    for gateway in (a, b):
        await gateway.kill()
        gateway.close()


async def test_the_first_one_holds_it_hands_it_over_and_gets_it_back(pair: tuple[Lan, Gateway, Gateway]) -> None:
    _, a, b = pair
    await eventually(lambda: a.situation.held.value == {"lan"})
    await eventually(lambda: b.situation.returning.value[b.address].holder == "a")
    assert not await b.has_it()
    a.situation.withdrawn.set({"lan": "its LAN is gone"})
    await eventually(b.has_it)
    assert not await a.has_it()
    assert a.situation.held.value == frozenset()
    a.situation.withdrawn.set({})
    await eventually(a.has_it, within_s=20.0)
    assert not await b.has_it()


async def test_one_that_stops_gives_its_lease_back_before_it_ends(pair: tuple[Lan, Gateway, Gateway]) -> None:
    _, a, b = pair
    await a.holdings.leave()
    assert (await a.has_it(), a.management.lease.holder) != (True, "a")
    await eventually(b.has_it)


async def test_one_that_dies_is_followed_and_one_whose_agent_dies_is_not(pair: tuple[Lan, Gateway, Gateway]) -> None:
    lan, a, b = pair
    await a.kill()
    await asked(a, 10)
    assert not await b.has_it()
    a.start()
    await a.run()
    assert a.situation.floating.value.keys() == {a.address}, "what the kernel has is adopted"
    await eventually(lambda: a.situation.held.value == {"lan"})
    lan.a.ip("link", "set", "eth0", "down")
    await a.kill()
    await eventually(b.has_it)


async def test_without_management_the_holder_keeps_it_and_is_followed_when_it_is_silent(
    pair: tuple[Lan, Gateway, Gateway],
) -> None:
    lan, a, b = pair
    a.management.is_there = False
    for gateway in (a, b):
        gateway.situation.bus.set(Bus(standing="connecting", sessions=1))
    await asked(a, 20)
    assert (await a.has_it(), await b.has_it()) == (True, False)
    lan.a.ip("link", "set", "eth0", "down")
    await a.kill()
    await eventually(b.has_it)


def test_the_kernel_counts_what_clients_send_to_networks_that_answer_to_a_return_address(make_host: MakeHost) -> None:
    client, host, lan = (make_host() for _ in range(3))
    connect(host, "wt0", client, "eth0")
    connect(host, "eth0", lan, "eth0")
    for one, interface, own in ((host, "wt0", "100.64.0.1/16"), (client, "eth0", "100.64.0.11/16")):
        address(one, interface, own)
    address(host, "eth0", "192.0.2.1/24")
    host.ip("address", "add", "198.51.100.1/24", "dev", "eth0")
    client.ip("route", "add", "default", "via", "100.64.0.1")
    run(*host.command(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
    routes = [
        make.served("lan", "192.0.2.0/24", by=("gw",), return_address="192.0.2.254", masquerade=False),
        make.served("other", "198.51.100.0/24", by=("gw",)),
    ]
    ruleset = desired(make.documents(make.me("gw"), [], routes=routes), make.local()).ruleset
    assert ruleset is not None
    assert host.call(asyncio.run, host.call(Nft).replace(ruleset)) is None
    lans = host.call(lambda: Lans(Netlink(netlink.ROUTE)))
    mine = counting(ruleset, {"lan"})
    assert (len(mine), counting(ruleset, {"other"})) == (1, frozenset())
    assert lans.sent_by_clients() == {}
    for to in ("192.0.2.9", "198.51.100.9", "192.0.2.77"):
        client.call(_send, to)
    counted = lans.sent_by_clients()
    assert {rule: count.packets for rule, count in counted.items()} == dict.fromkeys(mine, 2)


def _send(to: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.sendto(b"x", (to, 9))


async def test_who_gets_the_packets_of_clients_follows_a_holder_that_is_in_the_lan_and_not_on_the_bus(
    pair: tuple[Lan, Gateway, Gateway],
) -> None:
    _, a, b = pair
    await asked(a, 10)
    a.situation.bus.set(Bus(standing="connecting", sessions=1))
    await asked(a, 10)
    assert not await b.has_it()
    clients = asyncio.create_task(b.is_sent_to())
    await eventually(b.has_it)
    await eventually(lambda: a.situation.held.value == frozenset(), within_s=20.0)
    await eventually(lambda: a.address not in a.situation.passed.value.desired.floating)
    assert (await a.has_it(), a.management.lease.holder) == (False, "b")
    clients.cancel()

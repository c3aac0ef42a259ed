"""The forwarder of a gateway with real sockets, a real table, and the process that it is."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode
import psutil
import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect
from services.agent.cells import counted
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.core.documents import Documents
from services.agent.core.firewall.learned import learned_name
from services.agent.core.kernel import FORWARDER_PORT, Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.drivers import forwarder_process, netlink
from services.agent.drivers.conntrack import Conntrack
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.forwarder.listening import MOST_CONNECTIONS
from services.agent.forwarding import Forwards
from services.agent.situation import PassResult, Situation
from shared.events.documents import RouteDoc
from tests.contract.agent_drivers.test_nft import nft
from tests.support.bus import eventually
from tests.support.dns import SILENCE, DnsServer
from tests.support.netns import MakeHost
from tests.unit.agent import make
from tests.unit.agent.make import rule

pytestmark = pytest.mark.root

GATEWAY, ALICE, BOB = "100.64.0.1", "100.64.0.11", "100.64.0.12"
GATEWAY_V6 = "fd00:64::1"
DB, LAN, LAN_V6 = "db.corp.example", "10.9.0.2", "fd00:9::2"
ROUTES = (make.served("lan", by="gw", domains=("*.corp.example",), distribution=("office",)),)


class Hosts(NamedTuple):
    """Two members of the overlay behind one interface, the gateway whose wt0 leads there, and a LAN behind it."""

    client: Namespace
    gateway: Namespace
    lan: Namespace


@pytest.fixture
def hosts(make_host: MakeHost) -> Hosts:
    made = Hosts(make_host(), make_host(), make_host())
    connect(made.client, "wt0", made.gateway, "wt0")
    connect(made.gateway, "eth0", made.lan, "eth0")
    for one in (f"{ALICE}/16", f"{BOB}/16", "fd00:64::b/64"):
        address(made.client, "wt0", one)
    address(made.gateway, "eth0", "10.9.0.1/24")
    address(made.gateway, "eth0", "fd00:9::1/64")
    address(made.lan, "eth0", f"{LAN}/24")
    address(made.lan, "eth0", f"{LAN_V6}/64")
    made.client.ip("route", "add", "10.9.0.0/24", "via", GATEWAY)
    made.client.ip("-6", "route", "add", "fd00:9::/64", "via", GATEWAY_V6)
    # The table drops what asks for neighbours, which an interface of WireGuard never has to.
    for host, other, there in ((made.client, made.gateway, GATEWAY_V6), (made.gateway, made.client, "fd00:64::b")):
        (found,) = json.loads(other.ip("-j", "link", "show", "wt0"))
        host.ip("neigh", "add", there, "lladdr", found["address"], "dev", "wt0", "nud", "permanent")
    for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        made.gateway.call(Path("/proc/sys", path).write_text, "1")
    return made


class Gateway:
    """The part of the agent, and what it works with. Runs in the gateway's namespace."""

    def __init__(self) -> None:
        self.nft = Nft()
        self.situation = Situation(make.local())
        self.dns = DnsServer()
        self.dns.zone[DB] = [f"A {LAN}", f"AAAA {LAN_V6}"]
        self.starts: list[int] = []
        self.asks("127.0.0.1")
        self.forwards = Forwards(self.situation, self.nft, Conntrack(partial(Netlink, netlink.NETFILTER)), self._start)

    def _start(self) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
        connection, child = forwarder_process.start()
        self.starts.append(child.pid)
        return connection, child

    def asks(self, *servers: str) -> None:
        """Whom the host itself asks from now on."""
        self.situation.host_dns.set(ResolvConf(servers=servers))

    async def passes(self, documents: Documents) -> Ruleset:
        """What the loop does with the documents, as far as it concerns the forwarder."""
        wanted = desired(documents, make.local())
        assert wanted.ruleset is not None
        assert await self.nft.replace(wanted.ruleset) is None
        self.situation.passed.set(PassResult(documents=documents, local=make.local(), desired=wanted))
        return wanted.ruleset

    @property
    def listening(self) -> tuple[str, ...]:
        return self.situation.forwarder.value.state.listening


def documents(*routes: RouteDoc, **settings: object) -> Documents:
    peers = [make.peer("alice", "office", v4=ALICE, v6="fd00:64::b"), make.peer("bob", v4=BOB, v6="")]
    return make.documents(
        make.me("gw"),
        peers,
        rules=[rule("shut", sources=["office"], action="drop")],
        routes=routes or ROUTES,
        settings_doc=make.settings(**settings),
    )


@asynccontextmanager
async def serving() -> AsyncIterator[Gateway]:
    made = Gateway()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: made.dns, local_addr=("127.0.0.1", 53))
    running = asyncio.create_task(made.forwards.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        transport.close()


def on(hosts: Hosts, scene: Callable[[Gateway], Awaitable[None]], *, up: bool = True) -> None:
    """Play a scene on the gateway; up: it has its addresses, and has been listening for a while."""
    if up:
        come_up(hosts)

    async def play() -> None:
        async with serving() as gateway:
            await gateway.passes(documents())
            if up:
                await eventually(lambda: gateway.listening == (GATEWAY, GATEWAY_V6))
            await scene(gateway)

    hosts.gateway.call(asyncio.run, play())


def come_up(hosts: Hosts) -> None:
    address(hosts.gateway, "wt0", f"{GATEWAY}/16")
    address(hosts.gateway, "wt0", f"{GATEWAY_V6}/64")


async def asked(
    hosts: Hosts,
    name: str = DB,
    kind: str = "A",
    *,
    to: str = GATEWAY,
    port: int = FORWARDER_PORT,
    tcp: bool = False,
    source: str | None = None,
    timeout: float = 10.0,
) -> dns.message.Message:
    """What the client hears."""
    ask = dns.query.tcp if tcp else dns.query.udp
    question = dns.message.make_query(name, kind, use_edns=0)
    return await asyncio.to_thread(
        hosts.client.call, partial(ask, question, to, timeout=timeout, port=port, source=source)
    )


def said(message: dns.message.Message) -> list[str]:
    return [rdata.to_text() for one in message.answer for rdata in one]


def permitted(version: int = 4) -> set[str]:
    """What is in the set of the route, as another program sees it."""
    listing = nft(f"list set inet whimbrel {learned_name('lan', 4 if version == 4 else 6)}")
    return set(re.findall(r"([0-9a-f.:]+) timeout", listing))


def connects(to: str, timeout: float = 3.0) -> str:
    """From whom the LAN host had a connection, as it says itself; "" when there was none."""
    try:
        with socket.create_connection((to, 8080), timeout) as made:
            return made.recv(100).decode()
    except OSError:
        return ""


def tells_callers(lan: Namespace, stop: "list[socket.socket]") -> None:
    """A server in the LAN that tells each client where it comes from."""
    listening = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
    stop.append(listening)
    while True:
        try:
            made, address = listening.accept()
        except OSError:
            return
        with made:
            made.sendall(address[0].removeprefix("::ffff:").encode())


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("to", [GATEWAY, GATEWAY_V6])
@pytest.mark.parametrize("port", [FORWARDER_PORT, 5353])
def test_d1_d2_clients_are_answered_by_udp_and_tcp_on_both_addresses_and_on_the_port_of_a_mixed_account(
    hosts: Hosts, tcp: bool, to: str, port: int
) -> None:
    async def scene(gateway: Gateway) -> None:
        await gateway.passes(documents(forwarder_port=port))
        answer = await asked(hosts, to=to, tcp=tcp, port=port)
        assert said(answer) == [LAN]
        assert permitted() == {LAN}, "it was there before the answer"
        assert said(await asked(hosts, kind="AAAA", to=to, tcp=tcp, port=port)) == [LAN_V6]
        assert permitted(6) == {LAN_V6}

    on(hosts, scene)


def test_one_client_s_connections_leave_room_for_those_of_others(hosts: Hosts) -> None:
    async def is_answered(source: str) -> bool:
        with contextlib.suppress(EOFError, OSError):
            return said(await asked(hosts, tcp=True, source=source)) == [LAN]
        return False

    async def scene(gateway: Gateway) -> None:
        peers = [make.peer(name, "office", v4=v4, v6="") for name, v4 in (("alice", ALICE), ("bob", BOB))]
        await gateway.passes(make.documents(make.me("gw"), peers, routes=ROUTES))
        await eventually(lambda: is_answered(BOB))
        with contextlib.ExitStack() as held:
            for _ in range(MOST_CONNECTIONS + 8):
                held.enter_context(
                    await asyncio.to_thread(
                        hosts.client.call,
                        partial(socket.create_connection, (GATEWAY, FORWARDER_PORT), 3.0, (ALICE, 0)),
                    )
                )
            assert await is_answered(BOB)
            assert not await is_answered(ALICE)
        await eventually(lambda: is_answered(ALICE))

    on(hosts, scene)


def test_d3_others_do_not_get_through_and_who_gets_through_by_a_policy_is_refused(
    hosts: Hosts,
) -> None:
    async def scene(gateway: Gateway) -> None:
        with pytest.raises(dns.exception.Timeout):
            await asked(hosts, source=BOB, timeout=0.5)
        there = documents()
        await gateway.passes(replace(there, rules={"in": rule("in", protocol="udp")}))
        refused = await asked(hosts, source=BOB)
        assert (dns.rcode.to_text(refused.rcode()), permitted()) == ("REFUSED", set())
        assert gateway.dns.asked == {}

    on(hosts, scene)


@pytest.mark.parametrize(("to", "masqueraded"), [(LAN, "10.9.0.1"), (LAN_V6, "fd00:9::1")])
def test_d4_the_first_packet_after_an_answer_passes_and_is_masqueraded_and_before_it_none_does(
    hosts: Hosts, to: str, masqueraded: str
) -> None:
    stop: list[socket.socket] = []

    async def scene(gateway: Gateway) -> None:
        server = asyncio.create_task(asyncio.to_thread(hosts.lan.call, partial(tells_callers, hosts.lan, stop)))
        await eventually(lambda: stop)
        try:
            assert await asyncio.to_thread(hosts.client.call, partial(connects, to, 0.5)) == ""
            await asked(hosts, kind="AAAA" if ":" in to else "A")
            assert await asyncio.to_thread(hosts.client.call, partial(connects, to, 0.9)) == masqueraded
        finally:
            stop[0].shutdown(socket.SHUT_RDWR)
            stop[0].close()
            await server

    on(hosts, scene)


def test_what_a_connection_leads_to_stays_permitted_and_what_none_leads_to_ends(hosts: Hosts) -> None:
    stop: list[socket.socket] = []

    async def scene(gateway: Gateway) -> None:
        server = asyncio.create_task(asyncio.to_thread(hosts.lan.call, partial(tells_callers, hosts.lan, stop)))
        await eventually(lambda: stop)
        assert await gateway.nft.fill({learned_name("lan", 4): {LAN: 60.0, "10.9.0.77": 60.0}}) is None
        connected = await asyncio.to_thread(hosts.client.call, partial(socket.create_connection, (LAN, 8080), 3.0))
        successor = Gateway()
        running = asyncio.create_task(successor.forwards.run())
        try:
            table = await successor.passes(documents())
            await eventually(lambda: successor.situation.forwarder.value.learned == 2)
            await successor.forwards.look()
            left = (await successor.nft.filled(table))[learned_name("lan", 4)]
            assert left[LAN] > 500
            assert left["10.9.0.77"] <= 60
        finally:
            running.cancel()
            await asyncio.wait([running])
            connected.close()
            stop[0].shutdown(socket.SHUT_RDWR)
            stop[0].close()
            await server

    on(hosts, scene)


def test_d2_where_it_cannot_listen_yet_it_says_so_and_goes_on_trying(hosts: Hosts) -> None:
    async def scene(gateway: Gateway) -> None:
        def unbound() -> dict[str, str]:
            return dict(gateway.situation.forwarder.value.state.unbound)

        await eventually(lambda: unbound() == dict.fromkeys((GATEWAY, GATEWAY_V6), "Cannot assign requested address"))
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
            other.bind(("0.0.0.0", FORWARDER_PORT))
            other.listen()
            await asyncio.to_thread(come_up, hosts)
            await eventually(lambda: unbound() == {GATEWAY: "Address already in use"}, within_s=20.0)
            assert gateway.listening == (GATEWAY_V6,)
        await eventually(lambda: gateway.listening == (GATEWAY, GATEWAY_V6), within_s=20.0)
        assert said(await asked(hosts)) == [LAN]

    on(hosts, scene, up=False)


def test_a_forwarder_that_is_killed_is_started_again_and_has_no_rights(hosts: Hosts) -> None:
    async def scene(gateway: Gateway) -> None:
        (first,) = gateway.starts
        assert set(psutil.Process(first).uids()) == {65_534}
        assert "NoNewPrivs:\t1\n" in Path("/proc", str(first), "status").read_text()
        assert gateway.situation.forwarder.value.state.rights == ""
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: len(gateway.starts) == 2, within_s=20.0)
        await eventually(lambda: gateway.listening == (GATEWAY, GATEWAY_V6), within_s=20.0)
        assert said(await asked(hosts)) == [LAN]

    on(hosts, scene)


def test_it_ends_with_the_last_name_and_with_the_agent(hosts: Hosts) -> None:
    pids = list[int]()

    async def scene(gateway: Gateway) -> None:
        await gateway.passes(documents(make.served("net", by="gw")))
        await eventually(lambda: not psutil.pid_exists(gateway.starts[0]), within_s=20.0)
        assert gateway.situation.forwarder.value.names == ()
        await gateway.passes(documents())
        await eventually(lambda: gateway.listening == (GATEWAY, GATEWAY_V6), within_s=20.0)
        pids.extend(gateway.starts)

    on(hosts, scene)
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))


def test_what_others_emptied_is_filled_again_and_what_a_former_run_filled_is_known(
    hosts: Hosts,
) -> None:
    async def first(gateway: Gateway) -> None:
        await asked(hosts)
        nft(f"flush set inet whimbrel {learned_name('lan', 4)}")
        await asyncio.sleep(0)
        gateway.situation.dirty.set(counted(gateway.situation.dirty.value, ["ruleset"]))
        await gateway.passes(documents())
        await eventually(lambda: permitted() == {LAN})
        nft(f"flush set inet whimbrel {learned_name('lan', 4)}")
        await gateway.forwards.look()
        assert permitted() == {LAN}, "also where nobody told"

    async def second(gateway: Gateway) -> None:
        await eventually(lambda: gateway.situation.forwarder.value.learned == 1)
        nft(f"flush set inet whimbrel {learned_name('lan', 4)}")
        gateway.situation.dirty.set(counted(gateway.situation.dirty.value, ["ruleset"]))
        await gateway.passes(documents())
        await eventually(lambda: permitted() == {LAN})

    on(hosts, first)
    hosts.gateway.ip("address", "flush", "dev", "wt0")
    on(hosts, second)


def test_a_name_can_be_resolved_for_who_is_no_client(hosts: Hosts) -> None:
    async def scene(gateway: Gateway) -> None:
        found = await gateway.forwards.resolve(DB)
        assert (found.v4, found.v6, found.problem) == ((LAN,), (LAN_V6,), "")
        assert 0 < found.ttl_s <= 300
        assert (permitted(), permitted(6)) == ({LAN}, {LAN_V6})
        nothing = await gateway.forwards.resolve("nothing.corp.example")
        assert (nothing.v4, nothing.v6, nothing.problem) == ((), (), "")
        assert (await gateway.forwards.resolve("elsewhere.example")).problem
        gateway.dns.zone[DB] = SILENCE
        gateway.dns.zone["late.corp.example"] = SILENCE
        assert (await gateway.forwards.resolve("late.corp.example")).problem

    on(hosts, scene)


def test_a_dead_nameserver_delays_the_first_answer_only_and_none_at_all_is_said(
    hosts: Hosts,
) -> None:
    async def scene(gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.9", 53))
            gateway.asks("127.0.0.9", "127.0.0.1")
            await eventually(lambda: len(gateway.situation.forwarder.value.state.nameservers) == 2)
            assert said(await asked(hosts)) == [LAN]
            gateway.dns.zone["b.corp.example"] = [f"A {LAN}"]
            began = loop.time()
            assert said(await asked(hosts, "b.corp.example")) == [LAN]
            assert loop.time() - began < 0.9, "the silent one was asked last"
            state = gateway.situation.forwarder.value.state
            assert (state.nameservers, state.problem) == (("127.0.0.9", "127.0.0.1"), "")
        gateway.asks(GATEWAY)
        await eventually(lambda: "no nameserver but itself" in gateway.situation.forwarder.value.state.problem)
        gateway.asks()
        await eventually(lambda: "has no nameserver:" in gateway.situation.forwarder.value.state.problem)
        failed = await asked(hosts, "c.corp.example")
        assert dns.rcode.to_text(failed.rcode()) == "SERVFAIL"

    on(hosts, scene)

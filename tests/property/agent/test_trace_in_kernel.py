"""The tracer against the real kernel: the same packets through the same table, and the same counters afterwards."""

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.documents import Documents
from services.agent.core.firewall.trace import Packet, State, Trace, trace
from services.agent.core.kernel import LISTEN_PORT, Hook, NftChain, RuleName, Ruleset
from services.agent.core.reconcile.desired import Local, desired
from services.agent.core.rule import Connection, Rule
from services.agent.drivers.nft import Nft
from tests.property.agent import worlds
from tests.support import frames
from tests.support.netns import MakeHost
from tests.support.netns import make_host as make_host

pytestmark = pytest.mark.root

WITHIN_S = 5.0
MAC = bytes((2, 0, 0, 0, 0, 1))
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
PACKET_OUTGOING = 4
MAGIC = b"whimbrel"

OWN = {4: "100.64.0.1", 6: "fd00:64::1"}
MASQUERADED = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
MEMBERS = {
    4: ("100.64.0.10", "100.64.0.11", "100.64.0.12", "100.64.0.13", "100.64.0.99"),
    6: ("fd00:64::a", "fd00:64::b", "fd00:64::c", "fd00:64::d", "fd00:64::99"),
}
STRANGERS = {4: "203.0.113.77", 6: "2001:db9::77"}
DESTINATIONS = tuple(one for one in worlds.ADDRESSES if not one.startswith(("127.", "0.", "255.")))
FLAGS = {"stray": frames.ACK, "invalid": frames.FIN | frames.ACK}
"""Of TCP packets that begin nothing."""
IN_OVERLAY = ("100.64.", "fd00:64::")


def version_of(text: str) -> int:
    return 6 if ":" in text else 4


@st.composite
def from_the_tunnel(draw: st.DrawFn) -> Packet:
    destination = draw(st.sampled_from((*DESTINATIONS, *OWN.values(), *OWN.values())))
    state: State = draw(
        st.sampled_from(("new", "new", "new", "established", "reply", "related", "stray", "stray", "invalid"))
    )
    protocol = draw(st.sampled_from(("tcp", "udp", "icmp"))) if state == "new" else "udp"
    if state in FLAGS:
        protocol = "tcp"
    mine = destination in OWN.values()
    return Packet(
        source=draw(st.sampled_from(MEMBERS[version_of(destination)])),
        destination=destination,
        protocol="icmp" if state == "related" else protocol,
        port=draw(st.sampled_from((*worlds.PORTS, LISTEN_PORT))) if protocol != "icmp" else 0,
        in_interface="wt0",
        out_interface="" if mine else "wt0" if destination.startswith(IN_OVERLAY) else "lan0",
        state=state,
        syn=protocol == "tcp" and state == "new",
    )


@st.composite
def from_the_lan(draw: st.DrawFn) -> Packet:
    version = draw(st.sampled_from((4, 6)))
    mine = draw(st.booleans())
    return Packet(
        source=draw(st.sampled_from((STRANGERS[version], *MEMBERS[version]))),
        destination=OWN[version] if mine else draw(st.sampled_from(MEMBERS[version])),
        protocol="udp",
        port=draw(st.sampled_from((80, LISTEN_PORT))),
        in_interface="lan0",
        out_interface="" if mine else "wt0",
    )


packets = st.lists(st.one_of(from_the_tunnel(), from_the_tunnel(), from_the_tunnel(), from_the_lan()), max_size=30)


class Site:
    """A gateway with wt0 and lan0, whoever is in the tunnel, and a LAN: we make and catch the packets of both."""

    def __init__(self, gateway: Namespace, tunnel: Namespace, lan: Namespace) -> None:
        self.gateway = gateway
        self._wires = {"wt0": _wire(tunnel, "wt0"), "lan0": _wire(lan, "lan0")}
        self._inputs = [gateway.call(socket.socket, *kind) for kind in _INPUTS]
        self._numbers = count(1)
        self._ports = cycle(range(1024, 65_000))
        for one in self._inputs:
            one.setblocking(False)

    def close(self) -> None:
        for one in (*self._wires.values(), *self._inputs):
            one.close()

    def number(self, packet: Packet) -> "Sent":
        return Sent(packet, next(self._numbers), next(self._ports))

    def inject(self, interface: str, packet: bytes) -> None:
        """As if it came in by the interface."""
        kind = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
        self._wires[interface].send(MAC + MAC + struct.pack("!H", kind) + packet)

    def answer(self, one: "Sent") -> None:
        """The other side speaks to who sends the packet, within the same connection or as the first of it."""
        packet = one.packet
        if packet.out_interface:
            self.inject(packet.out_interface, one.answer())
            return
        family = socket.AF_INET6 if packet.version == 6 else socket.AF_INET
        with self.gateway.call(socket.socket, family, socket.SOCK_DGRAM) as mine:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            mine.bind((packet.destination, packet.port))
            mine.sendto(one.token, (packet.source, one.port))

    def caught(self) -> Iterator[tuple[str, int, str, str]]:
        """What came out since: where ("" for the host itself), number, source and destination of each packet."""
        for where, wire in self._wires.items():
            for frame, sender in _read(wire):
                if sender[2] != PACKET_OUTGOING and (number := _number(frame)):
                    yield where, number, *frames.ends(frame[14:])
        for one in self._inputs:
            for data, sender in _read(one):
                if number := _number(data):
                    yield "", number, sender[0], OWN[4 if one.family == socket.AF_INET else 6]


_INPUTS = [
    (family, socket.SOCK_RAW, protocol)
    for family, protocols in (
        (socket.AF_INET, (frames.UDP, frames.TCP, frames.ICMP)),
        (socket.AF_INET6, (frames.UDP, frames.TCP, frames.ICMPV6)),
    )
    for protocol in protocols
]
"""What is told of everything that reaches the host itself."""


class Sent:
    """A packet with a number in it. port: where it comes from, of its own for each."""

    def __init__(self, packet: Packet, number: int, port: int) -> None:
        self.packet, self.number, self.port = packet, number, port
        self.token = MAGIC + struct.pack("!I", number)

    def packed(self) -> bytes:
        packet, ends = self.packet, (self.packet.source, self.packet.destination)
        if packet.state == "related":
            return frames.unreachable(*ends, self.answer())
        if packet.protocol == "icmp":
            return frames.echo(*ends, self.port, self.token)
        ports = self.port, packet.port
        if packet.protocol == "udp":
            return frames.udp(*ends, ports, self.token)
        return frames.tcp(*ends, ports, self.token, FLAGS.get(packet.state, frames.SYN))

    def answer(self) -> bytes:
        return frames.udp(self.packet.destination, self.packet.source, (self.packet.port, self.port), self.token)


def _wire(host: Namespace, name: str) -> socket.socket:
    made = host.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.bind((name, 0))
    made.setblocking(False)
    return made


def _read(one: socket.socket) -> Iterator[tuple[bytes, tuple[str, int, int]]]:
    while True:
        try:
            yield one.recvfrom(2048)
        except BlockingIOError:
            return


def _number(data: bytes) -> int:
    """The number in the packet, 0 when it is none of ours, or the end of one that an ICMP message has cut off."""
    _, _, rest = data.partition(MAGIC)
    return struct.unpack_from("!I", rest)[0] if len(rest) >= 4 else 0


@pytest.fixture
def site(make_host: MakeHost) -> Iterator[Site]:
    gateway, tunnel, lan = make_host(), make_host(), make_host()
    connect(gateway, "wt0", tunnel, "wt0")
    connect(gateway, "lan0", lan, "lan0")
    for host, name in ((gateway, "wt0"), (gateway, "lan0"), (tunnel, "wt0"), (lan, "lan0")):
        host.ip("link", "set", name, "arp", "off", "address", MAC.hex(":"))
    for host in (tunnel, lan):  # says nothing of its own
        put(host, "net/ipv6/conf/all/disable_ipv6", "1")
    for name, own in (
        ("wt0", (f"{OWN[4]}/16", f"{OWN[6]}/64")),
        ("lan0", (f"{MASQUERADED[4]}/24", f"{MASQUERADED[6]}/64")),
    ):
        for prefix in own:
            address(gateway, name, prefix)
        put(gateway, f"net/ipv4/conf/{name}/rp_filter", "0")
    put(gateway, "net/ipv4/conf/all/rp_filter", "0")
    put(gateway, "net/ipv4/ip_forward", "1")
    for setting in ("all", "wt0", "lan0"):  # a redirect is the kernel's own, and is sent before the table is asked
        put(gateway, f"net/ipv4/conf/{setting}/send_redirects", "0")
    put(gateway, "net/ipv6/conf/all/forwarding", "1")
    for family in ("-4", "-6"):
        gateway.ip(family, "route", "add", "default", "dev", "lan0")
    gateway.call(asyncio.run, _track())
    made = Site(gateway, tunnel, lan)
    yield made
    made.close()


def put(host: Namespace, path: str, value: str) -> None:
    host.call(Path("/proc/sys", path).write_text, value)


async def _track() -> None:
    """A table that does nothing but have connections tracked, also while ours is away."""
    rule = Rule((Connection("related"),), "accept")
    chain = NftChain(name="tracking", hook=Hook("filter", "prerouting", -300), rules=(rule,))
    assert await Nft("tracking").replace(Ruleset(chains=(chain,))) is None


def seen(site: Site, wanted: set[tuple[str, int, str]]) -> dict[tuple[str, int, str], str]:
    """What came out: where, number and destination → source; waits until all that is wanted has."""
    found: dict[tuple[str, int, str], str] = {}
    until = time.monotonic() + WITHIN_S
    while True:
        found |= {(where, number, to): source for where, number, source, to in site.caught()}
        if wanted <= found.keys() or time.monotonic() > until:
            return found


def begin(site: Site, sent: Iterable[Sent]) -> None:
    """Have the connections that packets belong to, before there is a table."""
    first = [one for one in sent if one.packet.state == "established"]
    for one in first:
        site.inject("wt0", one.packed())
    wanted = {(one.packet.out_interface, one.number, one.packet.destination) for one in first}
    assert wanted <= seen(site, wanted).keys()
    answered = [one for one in sent if one.packet.state in ("established", "reply", "related")]
    for one in answered:
        site.answer(one)
    back = {("wt0", one.number, one.packet.source) for one in answered}
    assert back <= seen(site, back).keys()


def counted(site: Site, wanted: Counter[RuleName]) -> dict[RuleName, int]:
    """The kernel's counters; waits until they are as many as wanted."""
    until = time.monotonic() + WITHIN_S

    async def read() -> dict[RuleName, int]:
        return {name: found.packets for name, found in (await Nft().counts()).items()}

    while True:
        found = site.gateway.call(asyncio.run, read())
        if sum(found.values()) >= wanted.total() or time.monotonic() > until:
            return found


async def written(table: Ruleset | None) -> None:
    nft = Nft()
    assert await nft.destroy() is None
    if table is not None:
        assert await nft.replace(table) is None


def counts(traces: Iterable[Trace]) -> Counter[RuleName]:
    return Counter((step.chain, step.rule.key) for found in traces for step in found.steps if step.rule.counts)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(world=st.tuples(worlds.documents(), worlds.locals_()), drawn=packets)
def test_what_is_told_of_a_packet_is_what_the_kernel_does_to_it(
    site: Site, world: tuple[Documents, Local], drawn: list[Packet]
) -> None:
    table = desired(*world).ruleset
    site.gateway.call(asyncio.run, written(None))
    sent = [site.number(packet) for packet in drawn]
    begin(site, sent)
    site.gateway.call(asyncio.run, written(table))
    for one in sent:
        site.inject(one.packet.in_interface, one.packed())

    told = {one: trace(table, one.packet) for one in sent}
    passing = {
        (one.packet.out_interface, one.number, one.packet.destination): (
            MASQUERADED[one.packet.version] if found.masqueraded else one.packet.source
        )
        for one, found in told.items()
        if found.verdict == "accept"
    }
    hits = counts(told.values())
    assert counted(site, hits) == hits
    out = seen(site, set(passing))
    dropped = {(one.packet.out_interface, one.number, one.packet.destination) for one in sent} - passing.keys()
    assert {key: out.get(key) for key in passing} == passing
    assert not dropped & out.keys()

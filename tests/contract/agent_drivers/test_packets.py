"""What the rules, routes and tables of the core do to real packets. wt0 is a cable to whoever is in the tunnel."""

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.documents import Documents
from services.agent.core.kernel import CONTROL_MARK, LISTEN_PORT
from services.agent.core.reconcile.desired import Local, desired
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from tests.support.netns import MakeHost
from tests.unit.agent import make
from tests.unit.agent.make import permit, ports, rule, served

pytestmark = pytest.mark.root

WITHIN_S = 5.0
OVERLAY = {4: "100.64.0.1", 6: "fd00:64::1"}
ALICE = {4: "100.64.0.11", 6: "fd00:64::b"}
GATEWAY = {4: "192.0.2.1", 6: "2001:db8::1"}
LAN_HOST = {4: "192.0.2.9", 6: "2001:db8::9"}
FAR = "203.0.113.9"
MTU_OPTIONS = {4: (socket.IPPROTO_IP, 10, 14), 6: (socket.IPPROTO_IPV6, 23, 24)}
"""Level, IP_MTU_DISCOVER and IP_MTU of either family (linux/in.h, linux/in6.h)."""
PMTUDISC_DO = 2


def cable(one: Namespace, device: str, other: Namespace, other_device: str) -> None:
    one.ip("link", "add", device, "type", "veth", "peer", "name", other_device, "netns", other.name)
    for host, name in ((one, device), (other, other_device)):
        host.ip("link", "set", name, "up")


def address(host: Namespace, device: str, *addresses: str) -> None:
    for each in addresses:
        host.ip("address", "add", each, "dev", device, *(("nodad",) if ":" in each else ()))


def put(host: Namespace, path: str, value: str) -> None:
    host.call(Path("/proc/sys", path).write_text, value)


def apply(host: Namespace, documents: Documents, local: Local) -> dict[str, str]:
    """Make table, rules and routes of the host what the core wants; what was refused of the routes."""

    async def scene() -> dict[str, str]:
        want = desired(documents, local)
        assert want.ruleset is not None
        rtnl = Netlink(netlink.ROUTE)
        try:
            assert await Nft().replace(want.ruleset) is None
            assert await Rules(rtnl).upsert(want.rules) == {}
            return await Routes(rtnl).upsert(want.routes)
        finally:
            rtnl.close()

    return host.call(asyncio.run, scene())


def datagrams(host: Namespace, at: str, port: int, *, mark: int = 0) -> socket.socket:
    """A UDP socket of the host."""
    family = socket.AF_INET6 if ":" in at else socket.AF_INET
    opened = host.call(socket.socket, family, socket.SOCK_DGRAM)
    opened.settimeout(WITHIN_S)
    if mark:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    opened.bind((at, port))
    return opened


def unreachable(host: Namespace, at: str) -> bool:
    """Whether the kernel refuses what any program of the host sends there."""
    with datagrams(host, "0.0.0.0", 0) as anybody:
        try:
            anybody.sendto(b"leak", (at, 9))
        except OSError as refused:
            return refused.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
    return False


# A host with an exit that nobody carries


@pytest.fixture
def far(make_host: MakeHost) -> Namespace:
    """Somewhere beyond the next router, which it is itself."""
    made = make_host()
    made.ip("address", "add", f"{FAR}/32", "dev", "lo")
    return made


@pytest.fixture(params=["0", "1", "2"], ids=["no filter", "strict", "loose"])
def client(request: pytest.FixtureRequest, make_host: MakeHost, far: Namespace) -> Namespace:
    """A host that reaches `far` by its default route, with one of the kernel's reverse path filters."""
    made = make_host()
    cable(made, "eth0", far, "eth0")
    address(made, "eth0", "198.51.100.1/24")
    address(far, "eth0", "198.51.100.2/24")
    made.ip("route", "add", "default", "via", "198.51.100.2")
    for name in ("all", "eth0"):
        put(made, f"net/ipv4/conf/{name}/rp_filter", request.param)
    put(made, "net/ipv4/conf/all/src_valid_mark", "1")
    return made


def test_an_exit_that_is_unreachable_lets_wireguard_and_the_bus_through_and_nothing_else_r2(
    client: Namespace, far: Namespace
) -> None:
    there = make.documents(None, [make.peer("gw")], routes=[make.route("exit", "0.0.0.0/0")])
    assert apply(client, there, make.local()) == {}
    with (
        datagrams(client, "0.0.0.0", LISTEN_PORT, mark=CONTROL_MARK) as wireguard,
        datagrams(far, FAR, LISTEN_PORT) as peer,
        datagrams(far, FAR, 9) as behind_nat,
        far.call(socket.create_server, (FAR, 4222)) as bus,
        client.call(socket.socket) as agent,
    ):
        wireguard.sendto(b"hello", (FAR, LISTEN_PORT))
        assert peer.recv(9) == b"hello"
        peer.sendto(b"answer", ("198.51.100.1", LISTEN_PORT))
        assert wireguard.recv(9) == b"answer"
        behind_nat.sendto(b"first", ("198.51.100.1", LISTEN_PORT))
        assert wireguard.recv(9) == b"first", "who speaks first is heard too"
        agent.settimeout(WITHIN_S)
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, CONTROL_MARK)
        agent.connect(bus.getsockname())
        assert unreachable(client, FAR)


def test_an_exit_whose_interface_is_gone_does_not_leak_r2(client: Namespace, far: Namespace) -> None:
    there = make.documents(None, [make.peer("gw")], routes=[make.route("exit", "0.0.0.0/0")])
    refused = apply(client, there, make.local(["gw"]))
    assert refused == {"0.0.0.0/0": "interface wt0 does not exist"}
    assert unreachable(client, FAR)
    with datagrams(client, "0.0.0.0", LISTEN_PORT, mark=CONTROL_MARK) as wireguard, datagrams(far, FAR, 9) as peer:
        wireguard.sendto(b"hello", (FAR, 9))
        assert peer.recv(9) == b"hello"
        peer.sendto(b"answer", ("198.51.100.1", LISTEN_PORT))
        assert wireguard.recv(9) == b"answer"


# A routing peer between the tunnel and a LAN


@pytest.fixture
def tunnel(make_host: MakeHost) -> Namespace:
    """Alice, at the other end of the gateway's tunnel."""
    return make_host()


@pytest.fixture
def lan(make_host: MakeHost) -> Namespace:
    return make_host()


@pytest.fixture
def gateway(make_host: MakeHost, tunnel: Namespace, lan: Namespace) -> Namespace:
    """Everybody may ask this host anything; of what lies behind it Alice may have UDP port 80."""
    made = make_host()
    cable(made, "wt0", tunnel, "wt0")
    for host in (made, tunnel):  # no neighbours to ask for, as in a tunnel
        host.ip("link", "set", "wt0", "arp", "off", "address", "02:00:00:00:00:01")
    cable(made, "lan0", lan, "lan0")
    address(made, "wt0", f"{OVERLAY[4]}/16", f"{OVERLAY[6]}/64")
    address(made, "lan0", f"{GATEWAY[4]}/24", f"{GATEWAY[6]}/64")
    address(tunnel, "wt0", f"{ALICE[4]}/16", f"{ALICE[6]}/64")
    address(lan, "lan0", f"{LAN_HOST[4]}/24", f"{LAN_HOST[6]}/64")
    for host, via in ((tunnel, OVERLAY), (lan, GATEWAY)):
        host.ip("route", "add", "default", "via", via[4])
        host.ip("-6", "route", "add", "default", "via", via[6])
    put(made, "net/ipv4/ip_forward", "1")
    put(made, "net/ipv6/conf/all/forwarding", "1")
    web = permit("web", "all", protocol="udp", ports=ports(80))
    there = make.documents(
        make.me("me"),
        [make.peer("alice", v4=ALICE[4], v6=ALICE[6])],
        rules=[rule("everybody")],
        routes=[served("lan4", "192.0.2.0/24", web, masquerade=False), served("lan6", "2001:db8::/64", web)],
    )
    assert apply(made, there, make.local()) == {}
    return made


@pytest.mark.parametrize("version", [4, 6])
def test_wireguards_port_is_reached_from_outside_and_never_through_the_tunnel(
    version: int, gateway: Namespace, tunnel: Namespace, lan: Namespace
) -> None:
    """A peer whose packets came from inside would be answered there, in packets that come back to be sent again."""
    anywhere = "0.0.0.0" if version == 4 else "::"
    with (
        datagrams(gateway, anywhere, LISTEN_PORT) as wireguard,
        datagrams(gateway, anywhere, LISTEN_PORT + 1) as other,
        datagrams(tunnel, ALICE[version], 0) as alice,
        datagrams(lan, LAN_HOST[version], 0) as outside,
    ):
        alice.sendto(b"inside", (OVERLAY[version], LISTEN_PORT))
        alice.sendto(b"inside", (GATEWAY[version], LISTEN_PORT))
        alice.sendto(b"inside", (OVERLAY[version], LISTEN_PORT + 1))
        assert other.recv(9) == b"inside"
        outside.sendto(b"outside", (GATEWAY[version], LISTEN_PORT))
        assert wireguard.recv(9) == b"outside"


def test_a_lan_host_does_not_pass_for_a_member_of_the_overlay(
    gateway: Namespace, tunnel: Namespace, lan: Namespace
) -> None:
    """With the gateway's own address as source WireGuard takes it for the gateway, and so do the peers' rules."""
    address(lan, "lan0", f"{OVERLAY[6]}/128")
    with (
        datagrams(tunnel, ALICE[6], 7) as alice,
        datagrams(lan, OVERLAY[6], 0) as spoofed,
        datagrams(lan, LAN_HOST[6], 0) as honest,
    ):
        spoofed.sendto(b"spoofed", (ALICE[6], 7))
        honest.sendto(b"honest", (ALICE[6], 7))
        assert alice.recv(9) == b"honest"


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_in_fragments_is_judged_as_a_whole(
    version: int, gateway: Namespace, tunnel: Namespace, lan: Namespace
) -> None:
    with (
        datagrams(lan, LAN_HOST[version], 80) as permitted,
        datagrams(lan, LAN_HOST[version], 81) as shut,
        datagrams(tunnel, ALICE[version], 0) as alice,
    ):
        alice.sendto(b"x" * 4000, (LAN_HOST[version], 81))
        alice.sendto(b"y" * 4000, (LAN_HOST[version], 80))
        assert permitted.recv(9000) == b"y" * 4000
        shut.setblocking(False)
        with pytest.raises(BlockingIOError):
            shut.recv(9000)


@pytest.mark.parametrize("version", [4, 6])
def test_the_size_a_lan_path_allows_is_told_to_who_is_in_the_tunnel(
    version: int, gateway: Namespace, tunnel: Namespace, lan: Namespace
) -> None:
    """Alice's own table lets in what is related to her connection."""
    gateway.ip("link", "set", "lan0", "mtu", "1300")
    mine = make.documents(make.me("alice", v4=ALICE[4], v6=ALICE[6]))
    assert apply(tunnel, mine, make.local()) == {}
    level, discover, mtu = MTU_OPTIONS[version]
    with datagrams(lan, LAN_HOST[version], 80) as web, datagrams(tunnel, ALICE[version], 0) as alice:
        alice.setsockopt(level, discover, PMTUDISC_DO)
        alice.connect((LAN_HOST[version], 80))
        alice.send(b"z" * 1400)
        with pytest.raises(OSError, match="Message too long"):
            alice.recv(9)  # the ICMP error came back
        assert alice.getsockopt(level, mtu) == 1300
        alice.send(b"z" * 1200)
        assert web.recv(9000) == b"z" * 1200

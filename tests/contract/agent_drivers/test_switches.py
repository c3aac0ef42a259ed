"""What becomes of TCP connections when another routing peer carries them: two gateways into one LAN, real packets.

The client's two tunnels are cables, and its route says which of them is in use.
"""

import socket
import time
from functools import partial
from typing import NamedTuple

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.documents import Documents
from services.agent.core.ha.connections import departed, served
from services.agent.drivers import netlink
from services.agent.drivers.conntrack import Conntrack
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.sockdiag import TcpSockets
from tests.contract.agent_drivers.test_nft import nft
from tests.contract.agent_drivers.test_packets import address, apply, cable, put
from tests.support.netns import MakeHost
from tests.unit.agent import make

pytestmark = pytest.mark.root

WITHIN_S = 5.0
ALICE = {4: "100.64.0.11", 6: "fd00:64::b"}
OVERLAY = {4: "100.64.0.0/16", 6: "fd00:64::/64"}
LAN = {4: "192.0.2.0/24", 6: "2001:db8::/64"}
LAN_HOST = {4: "192.0.2.9", 6: "2001:db8::9"}
GATEWAYS = {"a": {4: "192.0.2.1", 6: "2001:db8::1"}, "b": {4: "192.0.2.2", 6: "2001:db8::2"}}
VERSIONS = (4, 6)


class Scene(NamedTuple):
    client: Namespace
    neighbour: Namespace
    lan: Namespace
    gateways: dict[str, Namespace]

    def use(self, name: str) -> None:
        """From now on this gateway carries the LAN for the client, and answers the LAN for the overlay."""
        for version in VERSIONS:
            family = f"-{version}"
            self.client.ip(family, "route", "replace", LAN[version], "dev", f"wt-{name}", "src", ALICE[version])
            via = GATEWAYS[name][version]
            self.lan.ip(family, "route", "replace", OVERLAY[version], "via", via)

    def opened(self, version: int, host: Namespace | None = None) -> tuple[socket.socket, socket.socket]:
        """Either end of a connection into the LAN. host: the client by default."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        with self.lan.call(socket.socket, family) as listener:
            listener.settimeout(WITHIN_S)
            listener.bind((LAN_HOST[version], 0))
            listener.listen()
            mine = (host or self.client).call(socket.socket, family)
            mine.settimeout(WITHIN_S)
            mine.connect(listener.getsockname())
            theirs, _ = listener.accept()
        theirs.settimeout(WITHIN_S)
        mine.sendall(b"question")
        assert theirs.recv(20) == b"question"
        theirs.sendall(b"answer")
        assert mine.recv(20) == b"answer"
        return mine, theirs

    def conntrack(self, name: str) -> Conntrack:
        return Conntrack(partial(self.gateways[name].call, Netlink, netlink.NETFILTER))


def documents(name: str, *, masquerade: bool) -> Documents:
    """A gateway's."""
    alice = make.peer("alice", v4=ALICE[4], v6=ALICE[6])
    routes = [make.served(f"lan{version}", net, by=name, masquerade=masquerade) for version, net in LAN.items()]
    return make.documents(make.me(name), [alice], routes=routes)


def scene(make_host: MakeHost, *, masquerade: bool) -> Scene:
    client, neighbour, lan, wire = (make_host() for _ in range(4))
    gateways = {name: make_host() for name in GATEWAYS}
    wire.ip("link", "add", "lan", "type", "bridge")
    wire.ip("link", "set", "lan", "up")
    cable(lan, "lan0", wire, "port-lan")
    cable(client, "eth0", neighbour, "eth0")
    address(client, "lo", f"{ALICE[4]}/32", f"{ALICE[6]}/128")
    address(client, "eth0", "198.51.100.1/24")
    address(neighbour, "eth0", "198.51.100.7/24")
    neighbour.ip("route", "add", "default", "via", "198.51.100.1")
    address(lan, "lan0", f"{LAN_HOST[4]}/24", f"{LAN_HOST[6]}/64")
    for name, gateway in gateways.items():
        cable(client, f"wt-{name}", gateway, "wt0")
        cable(gateway, "lan0", wire, f"port-{name}")
        for host, device in ((client, f"wt-{name}"), (gateway, "wt0")):  # no neighbours to ask for, as in a tunnel
            host.ip("link", "set", device, "arp", "off", "address", "02:00:00:00:00:01")
        for version, own in GATEWAYS[name].items():
            address(gateway, "lan0", f"{own}/{24 if version == 4 else 64}")
            gateway.ip(f"-{version}", "route", "add", ALICE[version], "dev", "wt0")
        forward(gateway)
        assert apply(gateway, documents(name, masquerade=masquerade), make.local()) == {}
    forward(client)
    client.call(
        nft,
        "add table ip own { chain nat { type nat hook postrouting priority 100;"
        ' oifname "wt-*" ip saddr 198.51.100.0/24 snat to 100.64.0.11; }; }',
    )
    for name in ("lan", *gateways):
        wire.ip("link", "set", f"port-{name}", "master", "lan")
    made = Scene(client, neighbour, lan, gateways)
    made.use("a")
    return made


def forward(host: Namespace) -> None:
    put(host, "net/ipv4/ip_forward", "1")
    put(host, "net/ipv6/conf/all/forwarding", "1")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_said_on_a_connection_that_the_new_gateway_would_masquerade_is_answered_with_a_reset(
    version: int, make_host: MakeHost
) -> None:
    """As an SSH session that was idle meanwhile, on a client that cannot end its connections itself."""
    there = scene(make_host, masquerade=True)
    mine, _ = there.opened(version)
    there.use("b")
    mine.sendall(b"are you there")
    with pytest.raises(ConnectionResetError):
        mine.recv(20)
    there.opened(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_that_nobody_masquerades_goes_on_through_the_other_gateway(
    version: int, make_host: MakeHost
) -> None:
    there = scene(make_host, masquerade=False)
    mine, theirs = there.opened(version)
    there.use("b")
    mine.sendall(b"are you there")
    assert theirs.recv(20) == b"are you there"
    theirs.sendall(b"yes")
    assert mine.recv(20) == b"yes"


def test_a_connection_of_a_host_behind_the_client_ends_with_its_next_packet(make_host: MakeHost) -> None:
    there = scene(make_host, masquerade=True)
    mine, _ = there.opened(4, there.neighbour)
    there.use("b")
    mine.sendall(b"are you there")
    with pytest.raises(ConnectionResetError):
        mine.recv(20)


@pytest.mark.parametrize("version", VERSIONS)
def test_whoever_waits_for_a_download_is_told_and_its_server_too(version: int, make_host: MakeHost) -> None:
    """The client ends its socket, and the gateway that was left forgets the connection."""
    there = scene(make_host, masquerade=True)
    mine, theirs = there.opened(version)
    there.use("b")
    sockets = TcpSockets(partial(there.client.call, Netlink, netlink.SOCK_DIAG))
    assert sockets.end(sockets.of([ALICE[version]])) == 1
    with pytest.raises(ConnectionAbortedError):
        mine.recv(20)
    conntrack = there.conntrack("a")
    behind = served(documents("a", masquerade=True), ["lan4", "lan6"])
    left = {ALICE[version]: frozenset({"lan4", "lan6"})}
    assert conntrack.forget(departed(conntrack.begun_by([ALICE[version]]), behind, left)) == 1
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        _go_on(theirs)


def _go_on(sending: socket.socket) -> None:
    """As a server does that knows of nothing, for five seconds."""
    for _ in range(1000):
        sending.sendall(bytes(1000))
        time.sleep(0.005)

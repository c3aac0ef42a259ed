"""A path that takes less than the tunnel's packets: over IPv4 its routers need not say so, over IPv6 they must."""

import contextlib
import socket
import subprocess
import time
from functools import partial

import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.wireguard import sockets
from services.agent.drivers.wireguard.userspace import WireGuardGo
from tests.contract.agent_drivers.conftest import key, public, run_on
from tests.contract.agent_drivers.test_wireguard_go import ask, echo_once, tunnel_to
from tests.support.bus import LIMIT_S
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

NARROW = 1300
LARGEST = 1280 - 28
"""Of a datagram inside the tunnel: 1340 bytes outside."""

SILENT = "table ip mute { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; }; }"


@pytest.fixture
def ends(make_host: MakeHost) -> tuple[Namespace, Namespace]:
    """Two hosts with two routers in between, whose cable takes 1300 bytes and who answer nothing."""
    left, right, routers = make_host(), make_host(), (make_host(), make_host())
    for host, router, net in ((left, routers[0], "192.0.2"), (right, routers[1], "203.0.113")):
        connect(host, "eth0", router, "eth0")
        address(host, "eth0", f"{net}.1/24")
        address(router, "eth0", f"{net}.254/24")
        host.ip("route", "add", "default", "via", f"{net}.254")
        subprocess.run(router.command(["sysctl", "-qw", "net.ipv4.ip_forward=1"]), check=True)
        subprocess.run(router.command(["nft", SILENT]), check=True)
    connect(routers[0], "eth1", routers[1], "eth1")
    for number, router in enumerate(routers, 1):
        address(router, "eth1", f"198.51.100.{number}/24")
        router.ip("link", "set", "eth1", "mtu", str(NARROW))
        router.ip("route", "add", "default", "via", f"198.51.100.{3 - number}")
    return left, right


def test_large_packets_pass_where_a_narrow_path_says_nothing(ends: tuple[Namespace, Namespace]) -> None:
    keys, outside = (key(1), key(2)), ("192.0.2.1", "203.0.113.1")
    for number, host in enumerate(ends):
        other = 1 - number
        run_on(host, tunnel_to(keys[number], number + 1, public(keys[other]), other + 1, f"{outside[other]}:51820"))
    for host, own in zip(ends, keys, strict=True):
        run_on(host, partial(settle, own))
    answering = ends[1].submit(echo_once, socket.AF_INET, "100.64.0.2")
    assert ends[0].call(ask, socket.AF_INET, "100.64.0.2") == b"hello"
    answering.result()
    answering = ends[1].submit(echo_large)
    assert ends[0].call(ask_large) == LARGEST
    answering.result()


@pytest.fixture
def ends_v6(make_host: MakeHost) -> tuple[Namespace, Namespace]:
    """Two hosts with two IPv6 routers in between, whose cable takes 1300 bytes and who say so."""
    left, right, routers = make_host(), make_host(), (make_host(), make_host())
    for number, (host, router) in enumerate(zip((left, right), routers, strict=True), 1):
        connect(host, "eth0", router, "eth0")
        address(host, "eth0", f"2001:db8:{number}::1/64")
        address(router, "eth0", f"2001:db8:{number}::fe/64")
        host.ip("route", "add", "default", "via", f"2001:db8:{number}::fe")
        subprocess.run(router.command(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]), check=True)
    connect(routers[0], "eth1", routers[1], "eth1")
    for number, router in enumerate(routers, 1):
        address(router, "eth1", f"2001:db8:3::{number}/64")
        router.ip("link", "set", "eth1", "mtu", str(NARROW))
        router.ip("route", "add", "default", "via", f"2001:db8:3::{3 - number}")
    return left, right


def test_large_packets_pass_where_a_narrow_ipv6_path_says_so(ends_v6: tuple[Namespace, Namespace]) -> None:
    keys = (key(1), key(2))
    for number, host in enumerate(ends_v6):
        other = 1 - number
        endpoint = f"[2001:db8:{other + 1}::1]:51820"
        run_on(host, tunnel_to(keys[number], number + 1, public(keys[other]), other + 1, endpoint))
    answering = ends_v6[1].submit(echo_once, socket.AF_INET, "100.64.0.2")
    assert ends_v6[0].call(ask, socket.AF_INET, "100.64.0.2") == b"hello"
    answering.result()
    answering = ends_v6[1].submit(echo_large)
    assert ends_v6[0].call(ask_large) == LARGEST
    answering.result()


def test_where_the_socket_cannot_be_had_the_limit_is_told(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose seccomp profile knows no pidfd_getfd."""
    monkeypatch.setattr(sockets, "SYS_PIDFD_GETFD", 1 << 20)
    run_on(host, tunnel_to(key(1), 1, public(key(2)), 2, "192.0.2.1:51820"))

    async def scenario(rtnl: Netlink) -> None:
        driver = WireGuardGo(rtnl, "wt0", key(1))
        device, _ = await driver.observe()
        assert device is not None
        assert not device.keeps_whole
        assert driver.limit == (
            "IPv4 paths narrower than 1340 bytes that do not say so stall: wireguard-go forbids fragments, and its "
            "socket cannot be had (Function not implemented): load the kernel's module wireguard, "
            "or allow CAP_SYS_PTRACE"
        )

    run_on(host, scenario)


async def settle(own: str, rtnl: Netlink) -> None:
    """What the agent's loop does: read, and configure what differs."""
    driver = WireGuardGo(rtnl, "wt0", own)
    device, _ = await driver.observe()
    assert device is not None
    if device.keeps_whole:
        assert await driver.configure(replace(device, keeps_whole=False)) is None
        device, _ = await driver.observe()
    assert device is not None
    assert not device.keeps_whole


def echo_large() -> None:
    """Send back what comes until an empty datagram does. The first large ones teach either side the path's size."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.settimeout(LIMIT_S)
        listening.bind(("100.64.0.2", 7))
        while True:
            data, sender = listening.recvfrom(2000)
            if not data:
                return
            listening.sendto(data, sender)


def ask_large() -> int:
    """The length of the answer to the largest datagram, 0 when none comes."""
    length = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        deadline = time.monotonic() + LIMIT_S
        while not length and time.monotonic() < deadline:
            asking.sendto(b"." * LARGEST, ("100.64.0.2", 7))
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                length = len(asking.recv(2000))
        asking.sendto(b"", ("100.64.0.2", 7))
    return length

"""What a gateway's kernel tells when it can carry a network no more, and that the host's word follows (decision G3).

How long each took from the event to the cell is printed: `pytest -s`.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.asking import Asking
from services.agent.candidacy import CandidacyWatch
from services.agent.cells import Watch
from services.agent.core.reconcile.desired import desired
from services.agent.drivers.gateway import Gateway
from services.agent.drivers.icmp import Icmp
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.notifications import KernelNotifications
from services.agent.drivers.rtnl_ways import Ways
from services.agent.drivers.tcp_probe import TcpProbe
from services.agent.monitor import Monitor
from services.agent.situation import PassResult, Situation
from services.agent.state import statefile
from services.agent.targets import ProbeTargets
from shared.events.documents import Probe, RouteDoc
from tests.contract.agent_drivers.conftest import run_on
from tests.support.netns import MakeHost
from tests.unit.agent import make

pytestmark = pytest.mark.root

LAN, LAN6, FAR = "10.9.0.0/24", "fd00:9::/64", "10.77.0.0/16"
NO_CARRIER = "eth1 has no carrier"
GONE = "there is no wt0, the WireGuard device"
NO_WAY = "the kernel has no way there (Network is unreachable); it was by eth1"
LOST = "the route into the network is gone, and only the default route is left; it was by eth1"
ROUTES = (make.served("lan", LAN), make.served("lan6", LAN6), make.served("far", FAR), make.served("exit", "0.0.0.0/0"))


class Host:
    """A gateway with a part of the agent: what it says of its routes, and the commands of others."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._watch = Watch(situation.carried)

    @property
    def withdrawn(self) -> dict[str, str]:
        return dict(self._situation.withdrawn.value)

    async def says(self, withdrawn: dict[str, str]) -> None:
        async with asyncio.timeout(20.0):
            while not self._situation.carried.value or self.withdrawn != withdrawn:
                await self._watch.wait()

    async def probed(self, verdict: str) -> None:
        """Come back when all probe targets are found to be so."""
        async with asyncio.timeout(20.0):
            while {one.probe for one in self._situation.carried.value.values()} != {verdict}:
                await self._watch.wait()

    async def does(self, command: str, withdrawn: dict[str, str]) -> None:
        """Somebody does this, and the host says that."""
        process = await asyncio.create_subprocess_shell(command)
        at = time.monotonic()
        assert await process.wait() == 0
        await self.says(withdrawn)
        print(f"\n{command}: {1000 * (time.monotonic() - at):.1f} ms, of which the command itself is a part")


def on(
    gateway: Namespace,
    state: Path,
    scene: Callable[[Host], Coroutine[Any, Any, None]],
    routes: tuple[RouteDoc, ...] = ROUTES,
) -> None:
    async def scenario(rtnl: Netlink) -> None:
        local, documents = make.local(), make.documents(routes=routes)
        situation = Situation(local)
        state.mkdir(exist_ok=True)
        watch = CandidacyWatch(situation, Ways(rtnl), Gateway(rtnl, "wt0"), statefile.own_ways(state))
        asking = Asking("target", 7, Icmp(7), TcpProbe())
        monitor = Monitor(situation, KernelNotifications("wt0", {rtnl.port}, lambda: 0))
        running = [asyncio.ensure_future(part.run()) for part in (watch, monitor, ProbeTargets(situation, asking))]
        situation.passed.set(PassResult(local=local, documents=documents, desired=desired(documents, local)))
        try:
            await scene(Host(situation))
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    run_on(gateway, scenario)


@pytest.fixture
def lan(make_host: MakeHost) -> Namespace:
    """A host in the routed network."""
    return make_host()


@pytest.fixture
def gateway(tunnel: Namespace, lan: Namespace, make_host: MakeHost) -> Namespace:
    """A host with wt0, a leg in LAN and LAN6 by eth1, a route to FAR by way of it, and a default route by eth0."""
    for interface, prefixes in (("eth1", ("10.9.0.1/24", "fd00:9::1/64")), ("eth0", ("192.0.2.7/24",))):
        connect(tunnel, interface, lan if interface == "eth1" else make_host(), "eth0")
        for prefix in prefixes:
            address(tunnel, interface, prefix)
    for prefix in ("100.64.0.1/16", "fd00:64::1/64"):
        address(tunnel, "wt0", prefix)
    tunnel.ip("route", "add", FAR, "via", "10.9.0.254")
    for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        tunnel.call(Path("/proc/sys", path).write_text, "1")
    tunnel.ip("route", "add", "default", "via", "192.0.2.1")
    return tunnel


ON_ETH1 = {"lan": LOST, "lan6": NO_WAY, "far": LOST}

CASES = {
    "the leg is set down": (
        "ip link set eth1 down",
        ON_ETH1,
        "ip link set eth1 up; ip address add fd00:9::1/64 dev eth1 nodad; ip route add 10.77.0.0/16 via 10.9.0.254",
    ),
    "the leg's address is removed": (
        "ip address del 10.9.0.1/24 dev eth1",
        {"lan": LOST, "far": LOST},
        "ip address add 10.9.0.1/24 dev eth1; ip route add 10.77.0.0/16 via 10.9.0.254",
    ),
    "the connected route is removed": (
        "ip route del 10.9.0.0/24",
        {"lan": LOST},
        "ip route add 10.9.0.0/24 dev eth1",
    ),
    "the route is removed": ("ip route del 10.77.0.0/16", {"far": LOST}, "ip route add 10.77.0.0/16 via 10.9.0.254"),
    "a black hole takes its place": (
        "ip route replace blackhole 10.77.0.0/16",
        {"far": "the kernel has no way there (Invalid argument); it was by eth1"},
        "ip route replace 10.77.0.0/16 via 10.9.0.254",
    ),
    "it is prohibited": (
        "ip route add prohibit 10.77.0.0/17; ip route add prohibit 10.77.128.0/17",
        {"far": "the kernel has no way there (Permission denied); it was by eth1"},
        "ip route del prohibit 10.77.0.0/17; ip route del prohibit 10.77.128.0/17",
    ),
    "a rule for what comes in by wt0 leads elsewhere": (
        "ip rule add iif wt0 to 10.77.0.0/16 unreachable priority 90",
        {"far": NO_WAY},
        "ip rule del priority 90",
    ),
    "it leads back into the tunnel": (
        "ip route replace 10.77.0.0/16 dev wt0",
        {"far": "the way there leads back into wt0; it was by eth1"},
        "ip route replace 10.77.0.0/16 via 10.9.0.254",
    ),
    "the default route is removed": (
        "ip route del default",
        {"exit": "the kernel has no way there (Network is unreachable)"},
        "ip route add default via 192.0.2.1",
    ),
    "forwarding is switched off": (
        "echo 0 > /proc/sys/net/ipv4/ip_forward",
        dict.fromkeys(("lan", "far", "exit"), "forwarding is off: sysctl -w net/ipv4/ip_forward=1"),
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ),
    "forwarding is switched off for IPv6": (
        "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
        {"lan6": "forwarding is off: sysctl -w net/ipv6/conf/all/forwarding=1"},
        "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    ),
    "forwarding is switched off at the leg": (
        "echo 0 > /proc/sys/net/ipv4/conf/eth1/forwarding",
        dict.fromkeys(("lan", "far"), "forwarding is off: sysctl -w net/ipv4/conf/eth1/forwarding=1"),
        "echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding",
    ),
    "the overlay interface is set down": (
        "ip link set wt0 down",
        dict.fromkeys(("lan", "lan6", "far", "exit"), "wt0, the WireGuard device, is down"),
        "ip link set wt0 up; ip address replace fd00:64::1/64 dev wt0 nodad",
    ),
    "the overlay interface is removed": (
        "ip link del wt0",
        dict.fromkeys(("lan", "lan6", "far", "exit"), GONE),
        "ip tuntap add wt0 mode tun; ip address add 100.64.0.1/16 dev wt0; ip address add fd00:64::1/64 dev wt0 nodad;"
        " ip link set wt0 up",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_way_that_goes_is_told_and_taken_back_when_it_is_there_again_g3(
    gateway: Namespace, tmp_path: Path, case: str
) -> None:
    harm, reasons, remedy = CASES[case]

    async def scene(host: Host) -> None:
        await host.says({})
        await host.does(harm, reasons)
        await host.does(remedy, {})

    on(gateway, tmp_path, scene)


def test_a_leg_without_carrier_carries_nothing_g3(gateway: Namespace, lan: Namespace, tmp_path: Path) -> None:
    """The kernel says so up to a second after the carrier went."""

    async def scene(host: Host) -> None:
        await host.says({})
        await host.does(f"ip -n {lan.name} link set eth0 down", dict.fromkeys(("lan", "lan6", "far"), NO_CARRIER))
        await host.does(f"ip -n {lan.name} link set eth0 up", {})

    on(gateway, tmp_path, scene)


def test_a_way_that_was_lost_before_this_run_is_missed_in_it(gateway: Namespace, tmp_path: Path) -> None:
    routes = (make.served("far", FAR),)

    async def before(host: Host) -> None:
        await host.says({})

    async def after(host: Host) -> None:
        await host.says({"far": LOST})

    on(gateway, tmp_path, before, routes)
    gateway.ip("route", "del", FAR)
    on(gateway, tmp_path, after, routes)


@pytest.mark.parametrize("kind", ["icmp", "tcp"])
def test_a_probe_target_that_falls_silent_withdraws_until_it_has_answered_for_three_seconds_g3_g4(
    gateway: Namespace, lan: Namespace, tmp_path: Path, kind: Literal["icmp", "tcp"]
) -> None:
    """The network beyond the leg swallows everything: the gateway's own kernel sees nothing of it."""
    address(lan, "eth0", "10.9.0.2/24")
    # Nobody accepts: what waits for that must not be so much that the kernel takes no more.
    server = lan.call(socket.create_server, ("10.9.0.2", 443), backlog=4096)
    probe = Probe(kind=kind, address="10.9.0.2", port=443 if kind == "tcp" else 0)
    what = "icmp 10.9.0.2" if kind == "icmp" else "tcp 10.9.0.2, port 443"
    routes = (make.served("lan", LAN, probe=probe), make.served("other", "10.9.0.0/25", probe=probe))
    nft = f"ip netns exec {lan.name} nft"
    swallow = "add table ip hole; add chain ip hole in { type filter hook prerouting priority -300; policy drop; }"

    async def scene(host: Host) -> None:
        await host.says({})
        await host.probed("up")
        silent = f"the probe target is silent: {what}"
        await host.does(f"{nft} '{swallow}'", {"lan": silent, "other": silent})
        await host.does(f"{nft} delete table ip hole", {})

    with server:
        on(gateway, tmp_path, scene, routes)

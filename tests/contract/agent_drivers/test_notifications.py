"""drivers/notifications.py and monitor.py: what others change is told at once, what we change ourselves is not."""

import asyncio
import itertools
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.netns import Namespace, connect
from services.agent.cells import Watch, since
from services.agent.core.firewall.ruleset import shape
from services.agent.core.kernel import NftChain, NftSet, RouteEntry, RuleEntry, Ruleset
from services.agent.core.reconcile.desired import Local
from services.agent.core.reconcile.steps import Kind
from services.agent.core.rule import Member, Rule
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.notifications import EVERYTHING, KernelNotifications
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from services.agent.monitor import Monitor
from services.agent.ports import HostChange, Notifications
from services.agent.situation import Situation
from tests.contract.agent_drivers.conftest import run_on
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

RULESET = Ruleset(
    sets=(NftSet(name="from_x", type="ipv4_addr", interval=False, elements=frozenset({"100.64.0.7"})),),
    chains=(NftChain(name="permits", rules=(Rule((Member(4, "source", "from_x"),), "accept"),)),),
)


class Heard:
    """`await anext(heard)`: what a monitor told since the last time, as soon as there is anything."""

    def __init__(self, notifications: Notifications) -> None:
        situation = Situation(Local(public_key="", listen_port=1))
        self._dirty = situation.dirty
        self._seen = self._dirty.value
        self._watch = Watch(self._dirty)
        self._running = asyncio.ensure_future(Monitor(situation, notifications).run())

    async def __anext__(self) -> frozenset[Kind | HostChange]:
        while not (kinds := since(self._seen, self._dirty.value)):
            await self._watch.wait()
        self._seen = self._dirty.value
        return kinds

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


class Watched:
    """A host's drivers with a monitor of what others do beside them."""

    def __init__(self, rtnl: Netlink) -> None:
        self.rtnl = rtnl
        self.nft = Nft()
        self.monitor = Heard(KernelNotifications("wt0", {rtnl.port}, lambda: self.nft.accounted))

    async def told(self) -> set[Kind | HostChange]:
        """What the monitor tells until the end of what has happened by now, which a sysctl marks.

        Whoever asks does not disturb sysctls.
        """
        path = Path("/proc/sys/net/ipv4/conf/lo/forwarding")
        path.write_text("0" if path.read_text().strip() == "1" else "1")
        found: set[Kind | HostChange] = set()
        async with asyncio.timeout(20):
            while "sysctl" not in found:
                found |= await anext(self.monitor)
        return found - {"sysctl"}


@asynccontextmanager
async def watching(rtnl: Netlink) -> AsyncIterator[Watched]:
    watched = Watched(rtnl)
    try:
        await watched.told()
        yield watched
    finally:
        await watched.monitor.close()


def on(host: Namespace, scenario: Callable[[Watched], Coroutine[Any, Any, None]]) -> None:
    async def scene(rtnl: Netlink) -> None:
        async with watching(rtnl) as watched:
            await scenario(watched)

    run_on(host, scene)


async def shell(command: str) -> None:
    """Another program at work, while the monitor listens."""
    process = await asyncio.create_subprocess_shell(command)
    assert await process.wait() == 0


def unheard(command: str) -> None:
    """Another program at work, while the event loop stands still and nobody listens."""
    subprocess.run(command, shell=True, check=True)


@pytest.fixture
def cabled(tunnel: Namespace, make_host: MakeHost) -> Namespace:
    """A host with wt0 and an eth0 that leads to another host."""
    connect(tunnel, "eth0", make_host(), "eth0")
    for path in ("net/ipv6/conf/eth0/disable_ipv6",):  # its link-local address would come at a time of its own
        tunnel.call(Path("/proc/sys", path).write_text, "1")
    deadline = time.monotonic() + 20.0
    while "state UP" not in tunnel.ip("link", "show", "eth0"):  # the kernel says so up to a second after the carrier
        assert time.monotonic() < deadline
    return tunnel


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("ip route add 10.0.0.0/8 dev wt0 table 7120", {"route"}),
        ("ip -6 route add fd00::/8 dev wt0 table 7120", {"route"}),
        ("ip route add 10.0.0.0/8 dev wt0 table 7120 && ip route del 10.0.0.0/8 table 7120", {"route"}),
        ("ip route add 10.0.0.0/8 dev wt0 table 99", set()),
        ("ip route add 10.0.0.0/8 dev wt0 table 7121", set()),
        ("ip route add 10.0.0.0/8 dev wt0", {"ways"}),
        ("ip route add 10.0.0.0/8 dev eth0", {"ways"}),
        ("ip route add default dev eth0", {"addresses"}),
        ("ip rule add priority 105 lookup main", {"rule"}),
        ("ip -6 rule add priority 105 lookup main", {"rule"}),
        ("ip address add 10.1.1.1/24 dev wt0", {"link"}),
        ("ip address add fd01::1/64 dev wt0", {"link"}),
        ("ip address add 10.1.1.1/24 dev eth0", {"addresses"}),
        ("ip address add 10.1.1.1/24 dev eth0 && ip route del 10.1.1.0/24", {"addresses", "ways"}),
        (
            "ip address add 10.1.1.1/24 dev eth0 && ip address del 10.1.1.1/24 dev eth0",
            {"addresses", "departed", "ways"},
        ),
        ("ip address add 169.254.1.1/24 scope link dev eth0 && ip address flush dev eth0", {"addresses", "ways"}),
        ("ip address add 10.1.1.1/24 dev wt0 && ip address del 10.1.1.1/24 dev wt0", {"link"}),
        ("ip link set wt0 mtu 1300", {"link"}),
        ("ip link set wt0 down", {"link"}),
        ("ip link del wt0", {"link"}),
        ("ip link set eth0 mtu 1300", {"addresses"}),
        ("nft add table inet whimbrel", {"ruleset"}),
        ("nft add table inet whimbrel && nft flush ruleset", {"ruleset"}),
        ("nft add table inet other", set()),
        ("nft add table ip whimbrel", set()),
        ("nft add table inet whimbrel2", set()),
    ],
)
def test_a_change_by_others_marks_its_kind_dirty(cabled: Namespace, command: str, told: set[Kind | HostChange]) -> None:
    async def scenario(watched: Watched) -> None:
        await shell(command)
        assert await watched.told() == told

    on(cabled, scenario)


@pytest.mark.parametrize(
    "path", ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/eth0/rp_filter"]
)
def test_settings_that_others_change_are_told(cabled: Namespace, path: str) -> None:
    async def scenario(watched: Watched) -> None:
        setting = Path("/proc/sys", path)
        setting.write_text("0" if setting.read_text().strip() == "1" else "1")
        async with asyncio.timeout(20):
            assert "sysctl" in await anext(watched.monitor)

    on(cabled, scenario)


def test_an_interface_that_comes_back_is_known_again(tunnel: Namespace) -> None:
    async def scenario(watched: Watched) -> None:
        await shell("ip link del wt0 && ip tuntap add wt0 mode tun")
        assert {"link"} <= await watched.told()
        await shell("ip address add 10.1.1.1/24 dev wt0")
        assert await watched.told() == {"link"}

    on(tunnel, scenario)


def test_what_we_do_ourselves_is_no_news(tunnel: Namespace) -> None:
    routes = {prefix: RouteEntry(prefix=prefix, device="wt0") for prefix in ("10.0.0.0/8", "fd00::/8")}
    rule = RuleEntry(family="v4", priority=110, table=7120)

    async def scenario(watched: Watched) -> None:
        await Routes(watched.rtnl).upsert(routes)
        await Routes(watched.rtnl).delete(routes)
        await Rules(watched.rtnl).upsert({("v4", 110): rule})
        await Rules(watched.rtnl).delete({("v4", 110): rule})
        await watched.nft.replace(RULESET)
        await watched.nft.observe()
        await watched.nft.change({"from_x": frozenset({"100.64.0.8"})}, {}, shape(RULESET))
        await watched.nft.destroy()
        assert await watched.told() == set()

    on(tunnel, scenario)


def test_a_change_by_others_between_two_of_ours_is_news(tunnel: Namespace) -> None:
    async def scenario(watched: Watched) -> None:
        await watched.nft.replace(RULESET)
        await watched.nft.observe()
        await shell("nft add element inet whimbrel from_x { 100.64.0.66 }")
        await watched.nft.change({"from_x": frozenset({"100.64.0.8"})}, {}, shape(RULESET))
        assert await watched.told() == {"ruleset"}

    on(tunnel, scenario)


def test_what_was_read_after_it_happened_is_no_news(tunnel: Namespace) -> None:
    async def scenario(watched: Watched) -> None:
        unheard("nft add table inet whimbrel")
        await watched.nft.observe()
        assert await watched.told() == set()

    on(tunnel, scenario)


def test_a_burst_of_fifty_thousand_routes_is_heard_to_the_end(tunnel: Namespace, tmp_path: Path) -> None:
    burst = tmp_path / "burst"
    burst.write_text(
        "".join(f"route add 12.{high}.{low}.0/24 dev wt0 table 7120\n" for high in range(200) for low in range(250))
    )

    async def scenario(watched: Watched) -> None:
        await shell(f"ip -batch {burst}")
        assert await watched.told() == {"route"}
        await shell("ip rule add priority 105 lookup main")
        assert await watched.told() == {"rule"}

    on(tunnel, scenario)


def test_a_burst_beyond_the_buffer_makes_everything_dirty_and_what_follows_is_heard(
    tunnel: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a notification was dropped, the kernel drops all until the buffer was empty, and says so only once."""
    monkeypatch.setattr("services.agent.drivers.notifications.RECEIVE_BUFFER", 4096)
    monkeypatch.setattr("services.agent.drivers.notifications.AT_ONCE", 1)
    burst = tmp_path / "burst"
    burst.write_text("".join(f"route add 12.0.0.{low}/32 dev wt0 table 7120\n" for low in range(200)))

    async def scenario(watched: Watched) -> None:
        unheard(f"ip -batch {burst}")
        async with asyncio.timeout(20):
            assert await anext(watched.monitor) == EVERYTHING
            unheard("ip rule add priority 105 lookup main")
            assert await anext(watched.monitor) == {"rule"}

    on(tunnel, scenario)


class Told:
    """Notifications by hand: each reading gives what was put in since."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._told: frozenset[Kind | HostChange] = frozenset()

    def tell(self, *dirty: Kind | HostChange) -> None:
        self._told |= frozenset(dirty)
        os.write(self._writing, b".")

    def filenos(self) -> tuple[int, ...]:
        return (self._reading,)

    def read(self) -> frozenset[Kind | HostChange]:
        os.read(self._reading, 100)
        told, self._told = self._told, frozenset()
        return told

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


async def test_whatever_comes_in_while_nobody_asks_is_one_answer() -> None:
    told = Told()
    monitor = Heard(told)
    for part in itertools.islice(itertools.cycle(sorted(EVERYTHING)), 20):
        told.tell(part)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await anext(monitor) == EVERYTHING
    waiting = asyncio.ensure_future(anext(monitor))
    await asyncio.sleep(0)
    assert not waiting.done()
    told.tell("rule")
    assert await waiting == {"rule"}
    await monitor.close()


async def test_notifications_of_nothing_wake_nobody() -> None:
    told = Told()
    monitor = Heard(told)
    waiting = asyncio.ensure_future(anext(monitor))
    told.tell()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    told.tell("route")
    assert await waiting == {"route"}
    await monitor.close()

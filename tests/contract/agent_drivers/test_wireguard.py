"""Both WireGuard drivers by one test body: wireguard-go on the real kernel, the kernel's module as a fake.

The module is not in the kernels the tests run on; tests/fakes/wireguard_genl.py speaks its bytes.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace
from services.agent.core.kernel import CONTROL_MARK, WireGuardDevice, WireGuardPeer
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.wireguard import kernelspace
from services.agent.drivers.wireguard.changes import DECOY
from services.agent.drivers.wireguard.kernelspace import WireGuardKernel
from services.agent.drivers.wireguard.userspace import WireGuardGo
from services.agent.ports import WireGuardDriver
from tests.contract.agent_drivers.conftest import key, public
from tests.fakes.wireguard_genl import KernelWireGuard

pytestmark = pytest.mark.root

Scenario = Callable[[WireGuardDriver], Coroutine[Any, Any, None]]
On = Callable[[Scenario], None]


OWN = key(1)
DEVICE = WireGuardDevice(public_key=public(OWN), listen_port=51820, fwmark=CONTROL_MARK)
A, B, C = (public(key(number)) for number in (2, 3, 4))


def peer(public_key: str, *allowed_ips: str, endpoint: str = "", keepalive_s: int = 25) -> WireGuardPeer:
    return WireGuardPeer(
        public_key=public_key, allowed_ips=frozenset(allowed_ips), endpoint=endpoint, keepalive_s=keepalive_s
    )


@pytest.fixture(params=["wireguard-go", "kernel"])
def on(request: pytest.FixtureRequest, host: Namespace) -> On:
    """Runs a scenario with a driver whose device is there."""

    async def scene(scenario: Scenario) -> None:
        rtnl = Netlink(netlink.ROUTE)
        driver: WireGuardDriver
        if request.param == "kernel":
            driver = WireGuardKernel(rtnl, "wt0", OWN, KernelWireGuard("wt0"))
        else:
            driver = WireGuardGo(rtnl, "wt0", OWN)
            await driver.create()
        await scenario(driver)
        await driver.destroy()

    def run(scenario: Scenario) -> None:
        host.call(asyncio.run, scene(scenario))

    return run


async def put(driver: WireGuardDriver, *peers: WireGuardPeer) -> dict[str, WireGuardPeer]:
    """The peers after an upsert that must succeed."""
    assert await driver.upsert({peer.public_key: peer for peer in peers}) == {}
    return dict((await driver.observe())[1])


def test_a_device_gets_key_port_and_mark(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        for device in (DEVICE, DEVICE, replace(DEVICE, listen_port=51999), replace(DEVICE, fwmark=0)):
            assert await driver.configure(device) is None
            assert (await driver.observe())[0] == device

    on(scenario)


def test_a_device_gets_no_key_but_its_own(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        assert await driver.configure(replace(DEVICE, public_key=A)) is not None
        assert (await driver.observe())[0] == DEVICE

    on(scenario)


def test_peers_come_change_and_go(on: On) -> None:
    one = peer(A, "100.64.0.2/32", "fd00:1::2/128", endpoint="192.0.2.1:51820")
    two = peer(B, "100.64.0.3/32", "10.0.0.0/8", "fd00:9::/64", endpoint="[2001:db8::1]:51820")
    other = peer(B, "100.64.0.3/32", "0.0.0.0/0", "::/0", endpoint="192.0.2.9:1", keepalive_s=0)

    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        for _ in range(2):
            assert await put(driver, one, two) == {A: one, B: two}
        assert await put(driver, other) == {A: one, B: other}
        for _ in range(2):
            assert await driver.delete([A, B]) == {}
            assert (await driver.observe())[1] == {}

    on(scenario)


def test_a_host_that_moves_keeps_its_device_and_its_peers(on: On) -> None:
    one = peer(A, "100.64.0.2/32", endpoint="192.0.2.1:51820")
    two = peer(B, "100.64.0.3/32", keepalive_s=0)

    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        await put(driver, one, two)
        await driver.move()
        assert await driver.observe() == (DEVICE, {A: one, B: two})

    on(scenario)


def test_an_endpoint_that_is_not_named_stays(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        await put(driver, peer(A, "10.0.0.0/8", endpoint="192.0.2.1:5"))
        assert await put(driver, peer(A, "10.0.0.0/8", "10.1.0.0/16")) == {
            A: peer(A, "10.0.0.0/8", "10.1.0.0/16", endpoint="192.0.2.1:5")
        }

    on(scenario)


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "fd00:9::/64"])
@pytest.mark.parametrize("observed_before", [True, False])
def test_an_allowed_ip_moves_from_one_peer_to_another_and_back(on: On, prefix: str, observed_before: bool) -> None:
    """Decision G5, whichever of the two is named first, and whether or not the device was read before."""
    before = {A: peer(A, "100.64.0.2/32", prefix), B: peer(B, "100.64.0.3/32")}
    after = {A: peer(A, "100.64.0.2/32"), B: peer(B, "100.64.0.3/32", prefix)}

    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        for desired in (before, after, before):
            for order in (desired, dict(reversed(desired.items()))):
                if observed_before:
                    await driver.observe()
                assert await driver.upsert(order) == {}
                assert (await driver.observe())[1] == desired

    on(scenario)


def test_allowed_ips_swap_shrink_and_grow_at_once(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        await put(driver, peer(A, "10.1.0.0/16", "10.9.0.0/16"), peer(B, "10.2.0.0/16"), peer(C, "10.3.0.0/16"))
        desired = [peer(A, "10.2.0.0/16"), peer(B, "10.1.0.0/16", "10.4.0.0/16"), peer(C)]
        assert await put(driver, *desired) == {one.public_key: one for one in desired}

    on(scenario)


def test_many_allowed_ips_are_set_and_read_whole(on: On) -> None:
    many = peer(A, *(f"10.{number // 256}.{number % 256}.0/24" for number in range(2500)), "fd00::/8")

    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        assert await put(driver, many, peer(B, "100.64.0.3/32")) == {A: many, B: peer(B, "100.64.0.3/32")}
        fewer = replace(many, allowed_ips=frozenset(list(many.allowed_ips)[:1500]))
        assert (await put(driver, fewer))[A] == fewer

    on(scenario)


def test_one_bad_peer_stops_no_other(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        desired = {A: peer(A, "10.1.0.0/16"), B: peer(B, "10.2.0.0/99"), C: peer(C, "10.3.0.0/16")}
        assert await driver.upsert(desired) == {B: "Invalid argument"}
        observed = (await driver.observe())[1]
        assert (observed[A], observed[C]) == (desired[A], desired[C])

    on(scenario)


def test_counters_start_with_the_peer(on: On) -> None:
    async def scenario(driver: WireGuardDriver) -> None:
        await driver.configure(DEVICE)
        assert await driver.stats() == {}
        await put(driver, peer(A, *(f"10.{number}.0.0/16" for number in range(10)), endpoint="[2001:db8::1]:7"))
        stats = (await driver.stats())[A]
        assert stats.endpoint == "[2001:db8::1]:7"
        if driver.name == "kernel":  # the fake says so
            assert (stats.last_handshake, stats.rx_bytes, stats.tx_bytes) == (1_700_000_000.5, 10, 20)
        else:
            assert (stats.last_handshake, stats.rx_bytes) == (0.0, 0)

    on(scenario)


def test_without_a_device_nothing_is_there_and_every_write_says_so(host: Namespace) -> None:
    async def scenario() -> None:
        rtnl = Netlink(netlink.ROUTE)
        drivers: list[WireGuardDriver] = [
            WireGuardGo(rtnl, "wt0", OWN),
            WireGuardKernel(rtnl, "wt0", OWN, KernelWireGuard("wt9")),
        ]
        for driver in drivers:
            assert await driver.observe() == (None, {})
            assert await driver.stats() == {}
            assert await driver.configure(DEVICE) is not None
            assert set(await driver.upsert({A: peer(A)})) == {A}
            assert set(await driver.delete([A])) == {A}
            await driver.destroy()

    host.call(asyncio.run, scenario())


def test_whose_interface_it_is_shows_in_its_key(host: Namespace) -> None:
    async def scene() -> None:
        genl = KernelWireGuard("wt0")
        assert await kernelspace.key_behind("wt0", genl) == ""
        assert await WireGuardKernel(Netlink(netlink.ROUTE), "wt0", OWN, genl).configure(DEVICE) is None
        assert await kernelspace.key_behind("wt0", genl) == public(OWN)
        assert await kernelspace.key_behind("wt1", genl) is None

    host.call(asyncio.run, scene())


def test_a_line_that_wireguard_go_does_not_take_keeps_no_other_peer(host: Namespace) -> None:
    async def scene() -> None:
        driver = WireGuardGo(Netlink(netlink.ROUTE), "wt0", OWN)
        await driver.create()
        await driver.upsert({A: peer(A, "10.1.0.0/16"), B: peer(B, "10.2.0.0/16")})
        short = base64.b64encode(bytes(31)).decode()
        assert set(await driver.delete([short, A, B])) == {short}
        assert (await driver.observe())[1] == {}
        await driver.destroy()

    host.call(asyncio.run, scene())


def test_allowed_ips_are_withdrawn_also_when_there_is_no_room_for_whom_they_are_given_to(host: Namespace) -> None:
    async def scene() -> None:
        kernel = KernelWireGuard("wt0")
        driver = WireGuardKernel(Netlink(netlink.ROUTE), "wt0", OWN, kernel)
        await driver.configure(DEVICE)
        await driver.upsert({A: peer(A, "10.1.0.0/16", "10.2.0.0/16"), B: peer(B, "10.3.0.0/16")})
        kernel.refused = {base64.b64decode(DECOY)}
        assert await driver.upsert({A: peer(A, "10.1.0.0/16"), B: peer(B, "10.3.0.0/16")}) == {}
        _, peers = await driver.observe()
        assert {key: one.allowed_ips for key, one in peers.items()} == {A: {"10.1.0.0/16"}, B: {"10.3.0.0/16"}}

    host.call(asyncio.run, scene())

"""drivers/rtnl_links.py and addresses.py on the real kernel."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.kernel import Link
from services.agent.core.paths.whereabouts import PASSING, Told, told
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_links import Links
from tests.contract.agent_drivers.conftest import run_on
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

ADDRESSES = ("100.64.0.7/16", "fd00:1::7/64")


def wt0(addresses: Iterable[str] = ADDRESSES, *, mtu: int = 1280, up: bool = True) -> dict[str, Link]:
    return {"wt0": Link(name="wt0", mtu=mtu, up=up, addresses=frozenset(addresses))}


def test_a_link_gets_its_mtu_and_addresses_of_both_families(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        for _ in range(2):
            assert await links.upsert(wt0()) == {}
            assert await links.observe() == wt0()

    run_on(tunnel, scenario)
    shown = tunnel.ip("address", "show", "dev", "wt0")
    assert "mtu 1280" in shown
    assert "inet 100.64.0.7/16 scope global" in shown
    assert "inet6 fd00:1::7/64 scope global" in shown
    assert "tentative" not in shown


@pytest.mark.parametrize(
    "others",
    [
        ("100.64.0.7/24", "fd00:1::7/64"),
        ("100.64.0.8/16", "fd00:1::7/64"),
        ("100.64.0.7/16", "fd00:1::7/48"),
        ("100.64.0.7/16", "fd00:1::8/64"),
        ("100.64.0.7/16", "100.64.0.8/16", "fd00:1::7/64", "fd00:1::8/64"),
        (),
    ],
)
def test_addresses_change_from_any_to_any(tunnel: Namespace, others: tuple[str, ...]) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        for desired in (wt0(), wt0(others), wt0()):
            assert await links.upsert(desired) == {}
            assert await links.observe() == desired

    run_on(tunnel, scenario)


@pytest.mark.parametrize(
    "drift",
    [
        "link set wt0 mtu 1400",
        "link set wt0 down",
        "address del 100.64.0.7/16 dev wt0",
        "address add 100.64.9.9/16 dev wt0",
        "address del fd00:1::7/64 dev wt0",
        "address add fd00:1::9/64 dev wt0 nodad",
    ],
)
def test_what_others_change_shows_and_is_put_right(tunnel: Namespace, drift: str) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        await links.upsert(wt0())
        tunnel.ip(*drift.split())
        assert await links.observe() != wt0()
        assert await links.upsert(wt0()) == {}
        assert await links.observe() == wt0()

    run_on(tunnel, scenario)


def test_link_local_addresses_are_the_kernels_own(tunnel: Namespace) -> None:
    tunnel.ip("address", "add", "fe80::9/64", "dev", "wt0", "nodad")

    async def scenario(rtnl: Netlink) -> None:
        assert await Links(rtnl, "wt0").upsert(wt0()) == {}
        assert await Links(rtnl, "wt0").observe() == wt0()

    run_on(tunnel, scenario)
    assert "fe80::9/64" in tunnel.ip("address", "show", "dev", "wt0")


def test_what_the_kernel_refuses_leaves_the_rest_done(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        assert await links.upsert(wt0(mtu=99_999)) == {
            "wt0": "mtu 99999: Invalid argument: mtu greater than device maximum"
        }
        assert (await links.observe())["wt0"].addresses == frozenset(ADDRESSES)

    run_on(tunnel, scenario)


def test_without_ipv6_the_ipv4_address_is_set_all_the_same(tunnel: Namespace) -> None:
    """The kernel takes IPv6 away from an interface with an MTU below 1280."""

    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        errors = await links.upsert(wt0(mtu=1279))
        assert errors["wt0"].startswith("address fd00:1::7/64: ")
        assert (await links.observe())["wt0"].addresses == {"100.64.0.7/16"}

    run_on(tunnel, scenario)


def test_an_interface_from_when_ipv6_was_off_gets_it_with_its_addresses(tunnel: Namespace) -> None:
    tunnel.call(Path("/proc/sys/net/ipv6/conf/wt0/disable_ipv6").write_text, "1")

    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        assert await links.upsert(wt0()) == {}
        assert (await links.observe())["wt0"].addresses == frozenset(ADDRESSES)

    run_on(tunnel, scenario)


def test_a_link_that_is_not_there_is_not_seen_not_set_and_already_removed(host: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        assert await links.observe() == {}
        assert await links.upsert(wt0()) == {"wt0": "there is no such interface"}
        assert await links.delete(["wt0"]) == {}

    run_on(host, scenario)


def test_a_link_is_removed_once(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        links = Links(rtnl, "wt0")
        for _ in range(2):
            assert await links.delete(["wt0"]) == {}
            assert await links.observe() == {}

    run_on(tunnel, scenario)


def test_the_addresses_of_a_host_are_those_it_may_be_reached_at_for_long(make_host: MakeHost) -> None:
    host, neighbour = make_host(), make_host()
    for device in ("eth0", "veth1"):
        connect(host, device, neighbour, device)
    for device, prefix in (
        ("eth0", "198.51.100.7/24"),
        ("eth0", "2001:db8:5::7/64"),
        ("veth1", "10.9.0.1/24"),
    ):
        address(host, device, prefix)
    host.ip("address", "add", "2001:db8:5::dead/64", "dev", "eth0", "preferred_lft", "0", "nodad")

    async def scenario(rtnl: Netlink) -> Told:
        return told(whereabouts(rtnl, ()), interface="wt0", overlay=())

    assert run_on(host, scenario) == Told(
        addresses=("198.51.100.7/24", "10.9.0.1/24", "2001:db8:5::7/64"), left_out={"2001:db8:5::dead/64": PASSING}
    )

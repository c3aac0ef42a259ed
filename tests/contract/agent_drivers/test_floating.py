"""drivers/rtnl_floating.py on the real kernel: an address in a LAN that comes and goes, and disturbs nobody there."""

import asyncio
import json
import socket
from typing import Any

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.kernel import FloatingAddress
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.notifications import KernelNotifications
from services.agent.drivers.rtnl_floating import FloatingAddresses
from tests.contract.agent_drivers.conftest import run_on
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

ADDRESSES = ("192.0.2.254", "2001:db8::fe")


@pytest.fixture
def lan(make_host: MakeHost) -> tuple[Namespace, Namespace]:
    """A gateway with two interfaces, the first of them in the LAN of the other host."""
    gateway, other = make_host(), make_host()
    connect(gateway, "eth0", other, "eth0")
    gateway.ip("link", "add", "eth1", "type", "bridge")
    gateway.ip("link", "set", "eth1", "up")
    for prefix in ("192.0.2.1/24", "2001:db8::1/64"):
        address(gateway, "eth0", prefix)
    for prefix in ("192.0.2.9/24", "2001:db8::9/64"):
        address(other, "eth0", prefix)
    return gateway, other


def on(interface: str) -> dict[str, FloatingAddress]:
    return {text: FloatingAddress(address=text, interface=interface) for text in ADDRESSES}


def shown(host: Namespace, interface: str) -> set[str]:
    """What iproute2 shows there of ours."""
    links: list[dict[str, Any]] = json.loads(host.ip("-j", "address", "show", "dev", interface))
    return {one["local"] for one in links[0]["addr_info"] if one["local"] in ADDRESSES}


def test_addresses_come_move_and_go_and_nothing_else_does(lan: tuple[Namespace, Namespace]) -> None:
    gateway, _ = lan
    routes = gateway.ip("route"), gateway.ip("-6", "route")

    async def scenario(rtnl: Netlink) -> None:
        driver = FloatingAddresses(rtnl)
        for interface in ("eth1", "eth0", "eth0"):
            assert await driver.upsert(on(interface)) == {}
            assert await driver.observe() == on(interface)
        assert (shown(gateway, "eth0"), shown(gateway, "eth1")) == ({*ADDRESSES}, set())
        assert (gateway.ip("route"), gateway.ip("-6", "route")) == routes
        assert await driver.delete(ADDRESSES) == {}
        assert await driver.delete(ADDRESSES) == {}
        assert await driver.observe() == {}

    run_on(gateway, scenario)
    assert "192.0.2.1/24" in gateway.ip("address", "show", "dev", "eth0")


def test_the_lan_reaches_the_address_and_nothing_is_sent_or_told_from_it(lan: tuple[Namespace, Namespace]) -> None:
    gateway, other = lan

    async def scenario(rtnl: Netlink) -> None:
        before = whereabouts(rtnl, ("192.0.2.9", "2001:db8::9"))
        await FloatingAddresses(rtnl).upsert(on("eth0"))
        for text in ADDRESSES:
            with pytest.raises(ConnectionRefusedError):  # which the host itself says that has the address
                other.call(socket.create_connection, (text, 9), 5.0)
        assert whereabouts(rtnl, ("192.0.2.9", "2001:db8::9")) == before

    run_on(gateway, scenario)


def test_an_address_that_people_gave_the_host_is_left_alone(lan: tuple[Namespace, Namespace]) -> None:
    gateway, _ = lan
    address(gateway, "eth0", "192.0.2.254/24")

    async def scenario(rtnl: Netlink) -> None:
        driver = FloatingAddresses(rtnl)
        assert await driver.observe() == {}
        assert await driver.delete(ADDRESSES) == {}

    run_on(gateway, scenario)
    assert shown(gateway, "eth0") == {"192.0.2.254"}


def test_an_interface_that_is_not_there_is_named(lan: tuple[Namespace, Namespace]) -> None:
    async def scenario(rtnl: Netlink) -> None:
        assert await FloatingAddresses(rtnl).upsert(on("eth7")) == dict.fromkeys(
            ADDRESSES, "there is no interface eth7"
        )

    run_on(lan[0], scenario)


def test_what_others_do_to_such_an_address_is_told_as_that_and_no_address_of_the_host_departs(
    lan: tuple[Namespace, Namespace],
) -> None:
    gateway, _ = lan

    async def scenario(rtnl: Netlink) -> None:
        notifications = KernelNotifications("wt0", {rtnl.port}, lambda: 0)
        for _ in range(20):
            await FloatingAddresses(rtnl).upsert(on("eth0"))
            await asyncio.sleep(0.01)  # the kernel tells of an IPv6 address in its time
            assert notifications.read() == frozenset(), "our own change"
            await FloatingAddresses(rtnl).delete(ADDRESSES)
            notifications.read()  # of an IPv6 address that goes the kernel does not tell who removed it
        await FloatingAddresses(rtnl).upsert(on("eth0"))
        for text, length in zip(ADDRESSES, ("32", "128"), strict=True):
            gateway.ip("address", "delete", f"{text}/{length}", "dev", "eth0")
        assert notifications.read() == {"floating"}
        notifications.close()

    run_on(gateway, scenario)

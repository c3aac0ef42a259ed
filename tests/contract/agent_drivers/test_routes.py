"""drivers/rtnl_routes.py on the real kernel."""

import ipaddress
import json
from typing import Any

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.kernel import RouteEntry
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_routes import Routes
from tests.contract.agent_drivers.conftest import run_on

pytestmark = pytest.mark.root

PREFIXES = ("10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "fd00::/8", "2001:db8::1/128", "::/0")
TABLE = 7120


def through(*prefixes: str, device: str = "wt0") -> dict[str, RouteEntry]:
    return {prefix: RouteEntry(prefix=prefix, device=device) for prefix in prefixes}


def unreachable(prefix: str) -> dict[str, RouteEntry]:
    return {prefix: RouteEntry(prefix=prefix, device="", unreachable=True)}


def shown(host: Namespace) -> list[dict[str, Any]]:
    """What iproute2 shows in the overlay's table."""
    everything = [
        route for family in ("-4", "-6") for route in json.loads(host.ip("-j", family, "route", "show", "table", "all"))
    ]
    return [route for route in everything if route.get("table") == str(TABLE)]


def test_routes_of_both_families_come_and_go(tunnel: Namespace) -> None:
    async def come(rtnl: Netlink) -> None:
        assert await Routes(rtnl).upsert(through(*PREFIXES)) == {}
        assert await Routes(rtnl).observe() == through(*PREFIXES)

    async def go(rtnl: Netlink) -> None:
        assert await Routes(rtnl).delete(PREFIXES) == {}
        assert await Routes(rtnl).observe() == {}

    run_on(tunnel, come)
    routes = shown(tunnel)
    assert sorted(route["dst"] for route in routes) == [
        "10.0.0.0/8", "192.0.2.1", "2001:db8::1", "default", "default", "fd00::/8"
    ]  # fmt: skip
    assert {route["dev"] for route in routes} == {"wt0"}
    assert {route.get("metric") for route in routes if ":" in route["dst"]} == {1024}
    run_on(tunnel, go)
    assert shown(tunnel) == []


def test_doing_it_again_changes_nothing(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        for _ in range(2):
            assert await routes.upsert(through(*PREFIXES)) == {}
            assert await routes.observe() == through(*PREFIXES)
        for _ in range(2):
            assert await routes.delete(PREFIXES) == {}
            assert await routes.observe() == {}

    run_on(tunnel, scenario)


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "::/0"])
def test_a_route_becomes_unreachable_and_back_in_its_place(tunnel: Namespace, prefix: str) -> None:
    """Decision R2: an exit route that fails closed."""

    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        for entry in (through(prefix), unreachable(prefix), through(prefix)):
            assert await routes.upsert(entry) == {}
            assert await routes.observe() == entry
            assert len(shown(tunnel)) == 1

    run_on(tunnel, scenario)


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "fd00::/8"])
def test_a_route_moves_to_another_device(tunnel: Namespace, prefix: str) -> None:
    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        await routes.upsert(through(prefix, device="lo"))
        assert await routes.upsert(through(prefix)) == {}
        assert await routes.observe() == through(prefix)
        assert len(shown(tunnel)) == 1

    run_on(tunnel, scenario)


def test_one_bad_route_stops_no_other(tunnel: Namespace) -> None:
    desired = through("10.0.0.0/8", "fd00::/8") | through("10.9.9.9/8") | through("10.2.0.0/16", device="nowhere")

    async def scenario(rtnl: Netlink) -> None:
        errors = await Routes(rtnl).upsert(desired)
        assert errors == {
            "10.9.9.9/8": "Invalid argument: Invalid prefix for given prefix length",
            "10.2.0.0/16": "interface nowhere does not exist",
        }
        assert await Routes(rtnl).observe() == through("10.0.0.0/8", "fd00::/8")

    run_on(tunnel, scenario)


def test_routes_of_others_are_neither_shown_nor_removed(tunnel: Namespace) -> None:
    for family, prefix in (("-4", "10.1.0.0/16"), ("-6", "fd01::/64")):
        tunnel.ip(family, "route", "add", prefix, "dev", "wt0", "table", str(TABLE))
        tunnel.ip(family, "route", "add", prefix, "dev", "wt0")

    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        assert await routes.observe() == {}
        assert await routes.delete(["10.1.0.0/16", "fd01::/64"]) == {}

    run_on(tunnel, scenario)
    assert sorted(route["dst"] for route in shown(tunnel)) == ["10.1.0.0/16", "fd01::/64"]


@pytest.mark.parametrize(("family", "prefix"), [("-4", "10.0.0.0/8"), ("-6", "fd00::/8")])
def test_a_route_that_others_removed_or_replaced_is_no_longer_ours(tunnel: Namespace, family: str, prefix: str) -> None:
    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        for drift in ("del", "replace"):
            await routes.upsert(through(prefix))
            tunnel.ip(family, "route", drift, prefix, "dev", "wt0", "table", str(TABLE))
            assert await routes.observe() == {}
        assert await routes.upsert(through(prefix)) == {}
        assert await routes.observe() == through(prefix)

    run_on(tunnel, scenario)


def test_ipv4_routes_vanish_with_their_link(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        await routes.upsert(through("10.0.0.0/8", "fd00::/8"))
        tunnel.ip("link", "del", "wt0")
        assert await routes.observe() == {}
        assert set(await routes.upsert(through("10.0.0.0/8"))) == {"10.0.0.0/8"}

    run_on(tunnel, scenario)


@pytest.mark.parametrize("first", ["11.0.0.0/32", "fd77::/128"])
def test_ten_thousand_routes_arrive_but_for_those_that_are_bad(tunnel: Namespace, first: str) -> None:
    """Batches are cut at 1,000: the bad ones lie next to the cuts, at both ends and away from them."""
    tunnel.ip("tuntap", "add", "down0", "mode", "tun")
    start = ipaddress.ip_network(first)
    prefixes = [f"{start.network_address + number}/{start.max_prefixlen}" for number in range(10_000)]
    bad = [prefixes[number] for number in (0, 999, 1000, 2500, 7777, 9999)]

    async def scenario(rtnl: Netlink) -> None:
        routes = Routes(rtnl)
        errors = await routes.upsert(through(*prefixes) | through(*bad, device="down0"))
        assert set(errors) == set(bad)
        assert all(error.startswith("Network is down") for error in errors.values())
        assert await routes.observe() == through(*(prefix for prefix in prefixes if prefix not in bad))
        assert await routes.delete(prefixes) == {}
        assert await routes.observe() == {}

    run_on(tunnel, scenario)

"""drivers/addresses.py: what the kernel says of a host's interfaces, and the ways its packets take."""

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.paths.whereabouts import NOWHERE, Interface, Told, Way, Whereabouts, told
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.netlink import Netlink
from tests.contract.agent_drivers.conftest import run_on
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root


def seen(host: Namespace, *targets: str) -> Whereabouts:
    async def scenario(rtnl: Netlink) -> Whereabouts:
        return whereabouts(rtnl, targets)

    return run_on(host, scenario)


@pytest.fixture
def router(make_host: MakeHost) -> Namespace:
    """A host whose uplink is br-lan, with containers on br-1 and nobody yet on docker0, and a tunnel to an office."""
    host, world, container = make_host(), make_host(), make_host()
    for bridge, prefix in (("docker0", "172.17.0.1/16"), ("br-1", "172.18.0.1/16"), ("br-lan", "192.0.2.7/24")):
        host.ip("link", "add", bridge, "type", "bridge")
        address(host, bridge, prefix)
        host.ip("link", "set", bridge, "up")
    connect(host, "veth1", container, "eth0")
    connect(host, "lan1", world, "eth0")
    host.ip("link", "set", "veth1", "master", "br-1")
    host.ip("link", "set", "lan1", "master", "br-lan")
    host.ip("tuntap", "add", "office", "mode", "tun")
    host.ip("link", "set", "office", "up")
    address(host, "office", "10.8.0.2/24")
    address(host, "br-lan", "2001:db8::7/64")
    return host


def test_interfaces_are_seen_with_their_kind_their_ports_and_default_routes(router: Namespace) -> None:
    router.ip("route", "add", "default", "via", "192.0.2.1")
    found = seen(router).interfaces
    veth = frozenset({"veth"})
    assert found["br-lan"] == Interface(kind="bridge", ports=veth, has_default=True)
    assert found["br-1"] == Interface(kind="bridge", ports=veth)
    assert found["docker0"] == Interface(kind="bridge")
    assert found["office"] == Interface(kind="tun")
    assert found["lan1"] == Interface(kind="veth")
    assert found["lo"] == Interface()


@pytest.mark.parametrize(
    "route",
    [
        ("default", "nexthop", "via", "192.0.2.1", "nexthop", "via", "192.0.2.2"),
        ("default", "dev", "br-lan", "metric", "600"),
        ("::/0", "via", "2001:db8::1"),
    ],
    ids=" ".join,
)
def test_a_default_route_of_any_sort_makes_an_uplink(router: Namespace, route: tuple[str, ...]) -> None:
    router.ip("route", "add", *route)
    uplinks = [name for name, interface in seen(router).interfaces.items() if interface.has_default]
    assert uplinks == ["br-lan"]


def test_a_default_route_of_another_table_makes_none(router: Namespace) -> None:
    router.ip("route", "add", "default", "via", "192.0.2.1", "table", "99")
    assert not any(interface.has_default for interface in seen(router).interfaces.values())


def test_the_ways_to_bus_and_peers_are_seen_as_marked_packets_take_them(router: Namespace) -> None:
    router.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.1")
    router.ip("route", "add", "198.51.100.9/32", "dev", "office", "table", "99")
    router.ip("rule", "add", "not", "fwmark", "0x1bd00/0x1ff00", "lookup", "99")
    assert seen(router, "198.51.100.9", "2001:db8::5", "10.8.0.9", "203.0.113.1", "2001:db8:9::1").ways == {
        "198.51.100.9": Way("192.0.2.7", "br-lan"),
        "2001:db8::5": Way("2001:db8::7", "br-lan"),
        "10.8.0.9": Way("10.8.0.2", "office"),
        "203.0.113.1": NOWHERE,
        "2001:db8:9::1": NOWHERE,
    }


def test_a_router_tells_its_uplink_and_nothing_of_containers_and_tunnels(router: Namespace) -> None:
    router.ip("route", "add", "default", "via", "192.0.2.1")
    found: Told = told(seen(router), interface="wt0", overlay=())
    assert found.addresses == ("192.0.2.7/24", "2001:db8::7/64")
    assert set(found.left_out) == {"172.17.0.1/16", "172.18.0.1/16", "10.8.0.2/24"}

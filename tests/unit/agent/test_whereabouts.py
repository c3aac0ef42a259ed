"""Which of a host's addresses other hosts are told, and why not the others."""

import pytest

from services.agent.core.paths.candidates import local_endpoints
from services.agent.core.paths.whereabouts import (
    NOTHING_REACHED,
    NOWHERE,
    OVERLAY,
    PASSING,
    TOO_MANY,
    Interface,
    InterfaceAddress,
    Told,
    Way,
    Whereabouts,
    bus_moved,
    told,
    tunnel_moved,
)

BRIDGE = Interface(kind="bridge")
CONTAINERS = Interface(kind="bridge", ports=frozenset({"veth"}))
MACHINES = Interface(kind="bridge", ports=frozenset({"tun"}))
LAN = Interface(kind="bridge", ports=frozenset({"", "veth"}))
CARD, CABLE, TUN, WIREGUARD, DUMMY = (Interface(kind=kind) for kind in ("", "veth", "tun", "wireguard", "dummy"))


def at(interface: str, *addresses: str) -> tuple[InterfaceAddress, ...]:
    return tuple(InterfaceAddress(interface=interface, address=address) for address in addresses)


def on(interfaces: dict[str, tuple[Interface, tuple[str, ...]]], **ways: Way) -> Told:
    """What is told of interfaces with addresses."""
    where = Whereabouts(
        addresses=tuple(one for name, (_, addresses) in interfaces.items() for one in at(name, *addresses)),
        interfaces={name: interface for name, (interface, _) in interfaces.items()},
        ways={way.source: way for way in ways.values()},
    )
    return told(where, interface="wt0", overlay=["100.64.0.0/16"])


def default(kind: str, *ports: str) -> Interface:
    return Interface(kind=kind, ports=frozenset(ports), has_default=True)


@pytest.mark.parametrize(
    ("name", "interface", "address", "is_told"),
    [
        ("eth0", CARD, "192.0.2.7/24", True),
        ("lan0", CARD, "10.0.0.7/24", True),
        ("eth0", CARD, "2001:db8::7/64", True),
        ("eth0", CABLE, "172.20.0.2/24", True),
        ("veth1", CABLE, "10.9.0.2/24", True),
        ("br0", LAN, "10.9.0.3/24", True),
        ("br-lan", LAN, "192.168.1.1/24", True),
        ("br-lan", default("bridge", "veth"), "192.168.1.1/24", True),
        ("docker0", default("bridge", "veth"), "172.17.0.1/16", True),
        ("tun-lab", CARD, "10.9.0.4/24", True),
        ("ts1", CARD, "10.9.0.5/24", True),
        ("bond0", Interface(kind="bond", ports=frozenset({""})), "10.9.0.6/24", True),
        ("eth0.7", Interface(kind="vlan"), "10.9.0.7/24", True),
        ("macvlan0", Interface(kind="macvlan"), "10.9.0.8/24", True),
        ("ppp0", default("ppp"), "203.0.113.8/32", True),
        ("he-ipv6", default("sit"), "2001:db8:1::2/64", True),
        ("eth0", default("veth"), "10.244.1.7/32", True),
        ("kube-ipvs0", DUMMY, "10.96.0.1/32", True),
        ("eth0", CARD, "fe80::7/64", False),
        ("eth0", CARD, "169.254.1.7/16", False),
        ("lo", CARD, "127.0.0.1/8", False),
        ("lo", CARD, "192.0.2.99/32", False),
        ("wt0", TUN, "192.0.2.8/24", False),
        ("eth0", CARD, "100.64.0.9/16", False),
        ("docker0", BRIDGE, "172.17.0.1/16", False),
        ("podman0", CONTAINERS, "10.88.0.1/16", False),
        ("cni0", CONTAINERS, "10.244.0.1/24", False),
        ("br-1a2b3c", CONTAINERS, "172.18.0.1/16", False),
        ("lan", CONTAINERS, "172.19.0.1/16", False),
        ("virbr0", MACHINES, "192.168.122.1/24", False),
        ("cali12345", CABLE, "10.244.0.9/32", False),
        ("flannel.1", Interface(kind="vxlan"), "10.244.0.0/32", False),
        ("tailscale0", TUN, "100.100.1.1/32", False),
        ("office", TUN, "10.8.0.2/24", False),
        ("wg0", WIREGUARD, "10.200.0.1/24", False),
        ("uplink", WIREGUARD, "10.200.0.1/24", False),
    ],
)
def test_an_interface_is_judged_by_what_it_does(name: str, interface: Interface, address: str, is_told: bool) -> None:
    assert on({name: (interface, (address,))}).addresses == ((address,) if is_told else ())


@pytest.mark.parametrize(
    ("name", "interface"), [("br-lan", CONTAINERS), ("docker0", BRIDGE), ("wg0", WIREGUARD), ("tailscale0", TUN)]
)
def test_what_bus_or_peers_are_reached_through_is_told(name: str, interface: Interface) -> None:
    found = on({name: (interface, ("10.1.0.1/24",))}, bus=Way("10.1.0.1", name))
    assert found == Told(addresses=("10.1.0.1/24",))


def test_an_address_of_loopback_is_told_where_packets_leave_with_it() -> None:
    found = on({"lo": (CARD, ("192.0.2.9/32",)), "eth0": (CARD, ("10.0.0.1/31",))}, bus=Way("192.0.2.9", "eth0"))
    assert found.addresses == ("192.0.2.9/32", "10.0.0.1/31")


def test_why_an_address_is_not_told_is_said() -> None:
    where = Whereabouts(
        addresses=(
            *at("br-lan", "192.168.1.1/24"),
            *at("wg0", "10.200.0.1/24"),
            *at("cali1", "10.244.0.9/32"),
            *at("eth0", "100.64.0.9/16", "fe80::1/64"),
            InterfaceAddress(interface="eth0", address="2001:db8::9/64", passing=True),
        ),
        interfaces={"br-lan": CONTAINERS, "wg0": WIREGUARD, "cali1": CABLE},
    )
    assert told(where, interface="wt0", overlay=["100.64.0.0/16"]) == Told(
        left_out={
            "192.168.1.1/24": f"br-lan is a bridge for containers, and {NOTHING_REACHED}",
            "10.200.0.1/24": f"wg0 is a tunnel, and {NOTHING_REACHED}",
            "10.244.0.9/32": f"cali1 is a cable to one container, and {NOTHING_REACHED}",
            "100.64.0.9/16": OVERLAY,
            "2001:db8::9/64": PASSING,
        }
    )


def test_a_node_with_many_addresses_of_services_tells_its_uplink_first() -> None:
    services = tuple(f"10.96.0.{number}/32" for number in range(1, 21))
    found = on({"kube-ipvs0": (DUMMY, services), "eth0": (default(""), ("192.0.2.7/24", "2001:db8::7/64"))})
    assert found.addresses == ("192.0.2.7/24", "2001:db8::7/64", *services[:14])
    assert found.left_out == dict.fromkeys(services[14:], TOO_MANY)


def test_uplinks_and_sources_come_before_other_networks_and_tunnels_before_services() -> None:
    found = on(
        {
            "kube-ipvs0": (DUMMY, ("10.96.0.1/32",)),
            "wg0": (WIREGUARD, ("10.200.0.1/24",)),
            "lan0": (CARD, ("2001:db8:2::1/64", "10.0.0.1/24")),
            "eth1": (CARD, ("10.1.0.1/24", "10.1.0.2/24")),
            "eth0": (default(""), ("2001:db8::7/64", "192.0.2.7/24")),
        },
        bus=Way("10.1.0.2", "eth1"),
        peer=Way("10.200.0.1", "wg0"),
    )
    assert found.addresses == (
        *("10.1.0.2/24", "192.0.2.7/24", "2001:db8::7/64"),
        *("10.0.0.1/24", "10.1.0.1/24", "2001:db8:2::1/64"),
        "10.200.0.1/24",
        "10.96.0.1/32",
    )


def test_an_address_is_told_once_and_ipv4_first() -> None:
    found = on({"eth0": (CARD, ("2001:db8::7/64", "192.0.2.7/24", "192.0.2.7/32"))})
    assert local_endpoints(found.addresses, 51821) == ("192.0.2.7:51821", "[2001:db8::7]:51821")


HERE, THERE = Way("192.0.2.1", "eth0"), Way("198.51.100.1", "eth1")
BUS, PEER = "203.0.113.9", "203.0.113.7"


def ways(bus: Way, peer: Way = HERE, *addresses: str) -> Whereabouts:
    return Whereabouts(addresses=at("eth0", *(addresses or ("192.0.2.1/24",))), ways={BUS: bus, PEER: peer})


@pytest.mark.parametrize(
    ("after", "is_moved"),
    [
        (ways(HERE), False),
        (ways(HERE, HERE, "192.0.2.1/24", "192.0.2.2/24"), False),
        (ways(HERE, HERE, "192.0.2.1/16"), False),
        (ways(HERE, THERE), False),
        (ways(HERE, HERE, "192.0.2.2/24"), True),
        (ways(THERE), True),
        (ways(NOWHERE), False),
        (ways(Way("192.0.2.1", "eth2")), False),
    ],
)
def test_a_connection_is_given_up_when_its_address_is_gone_or_another_is_used(
    after: Whereabouts, is_moved: bool
) -> None:
    assert bus_moved(ways(HERE), after, [BUS], ("192.0.2.1", BUS)) is is_moved


def test_a_connection_is_judged_by_the_server_it_leads_to() -> None:
    assert not bus_moved(ways(HERE), ways(THERE), [BUS], ("192.0.2.1", "203.0.113.10"))


def test_without_a_connection_any_way_to_the_bus_that_changed_is_tried_at_once() -> None:
    assert bus_moved(ways(NOWHERE), ways(HERE), [BUS], None)
    assert not bus_moved(ways(HERE), ways(HERE, THERE), [BUS], None)


def test_the_tunnel_moves_with_an_address_that_is_gone_or_a_way_that_changed() -> None:
    assert not tunnel_moved(ways(HERE), ways(THERE), False, [PEER])
    assert tunnel_moved(ways(HERE), ways(HERE), True, [])
    assert tunnel_moved(ways(HERE), ways(HERE, THERE), False, [PEER])
    assert tunnel_moved(ways(HERE), ways(HERE, NOWHERE), False, [PEER])
    assert tunnel_moved(Whereabouts(), ways(HERE), False, [PEER])

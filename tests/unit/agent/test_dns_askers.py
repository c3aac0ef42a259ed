"""Who may ask the resolver of a host, and who hears nothing."""

from ipaddress import ip_address, ip_network

import pytest

from services.agent.core.dns.askers import Askers
from services.agent.core.paths.whereabouts import Interface, InterfaceAddress, Whereabouts

CONTAINERS = Interface(kind="bridge", ports=frozenset({"veth"}))
MACHINES = Interface(kind="bridge", ports=frozenset({"tun"}))
NOBODY_YET = Interface(kind="bridge")
WITH_CARD = Interface(kind="bridge", ports=frozenset({"", "veth"}))
WITH_VLAN = Interface(kind="bridge", ports=frozenset({"vlan"}))
OTHER_HOSTS = Interface(kind="bridge", ports=frozenset({"vxlan", "veth"}))
UPLINK = Interface(kind="bridge", ports=frozenset({"veth"}), has_default=True)


@pytest.mark.parametrize(
    ("name", "interface", "own", "sender", "may"),
    [
        ("wt0", Interface(kind="wireguard"), "100.64.0.7/16", "100.64.0.7", True),
        ("wt0", Interface(kind="wireguard"), "100.64.0.7/16", "100.64.0.8", False),
        ("lo", Interface(), "127.0.0.1/8", "127.0.0.1", True),
        ("lo", Interface(), "127.0.0.1/8", "127.0.0.53", True),
        ("eth0", Interface(has_default=True), "192.0.2.7/24", "192.0.2.7", True),
        ("eth0", Interface(has_default=True), "192.0.2.7/24", "192.0.2.8", False),
        ("eth0", Interface(has_default=True), "192.0.2.7/24", "198.51.100.1", False),
        ("docker0", CONTAINERS, "172.17.0.1/16", "172.17.0.2", True),
        ("docker0", NOBODY_YET, "172.17.0.1/16", "172.17.0.2", True),
        ("virbr0", MACHINES, "192.168.122.1/24", "192.168.122.9", True),
        ("docker0", CONTAINERS, "fd17::1/64", "fd17::2", True),
        ("docker0", CONTAINERS, "172.17.0.1/16", "172.18.0.2", False),
        ("docker0", CONTAINERS, "100.64.1.1/24", "100.64.1.2", False),
        ("br-lan", WITH_CARD, "192.168.1.1/24", "192.168.1.2", False),
        ("br-lan", WITH_VLAN, "192.168.1.1/24", "192.168.1.2", False),
        ("br-lan", UPLINK, "192.168.1.1/24", "192.168.1.2", False),
        ("br-1", OTHER_HOSTS, "10.5.0.1/24", "10.5.0.2", False),
        ("office", Interface(kind="tun"), "10.8.0.2/24", "10.8.0.1", False),
        ("veth1", Interface(kind="veth"), "10.9.0.1/24", "10.9.0.2", False),
    ],
)
def test_this_host_and_what_runs_on_it_may_ask_and_neither_peers_nor_its_lan(
    name: str, interface: Interface, own: str, sender: str, may: bool
) -> None:
    where = Whereabouts(
        addresses=(InterfaceAddress(interface=name, address=own),),
        interfaces={name: interface},
    )
    askers = Askers(ip_address("100.64.0.7"), (ip_network("100.64.0.0/16"),), where)
    assert askers.may_ask(ip_address(sender)) is may


def test_a_host_whose_interfaces_are_not_known_yet_may_ask_itself() -> None:
    askers = Askers(ip_address("100.64.0.7"), (), Whereabouts())
    assert askers.may_ask(ip_address("100.64.0.7"))
    assert not askers.may_ask(ip_address("192.0.2.8"))

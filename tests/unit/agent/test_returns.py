"""core/ha/returns.py: which return addresses this host may hold, where, and who ranks before it."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.ha.returns import Return, held, returns
from services.agent.core.paths.whereabouts import InterfaceAddress
from shared.events.documents import PresenceDoc, RouteDoc
from tests.unit.agent import make
from tests.unit.agent.test_status import world

LAN = InterfaceAddress(interface="eth1", address="10.5.0.1/16")
LAN_V6 = InterfaceAddress(interface="eth1", address="fd00:5::1/64")
LINK_LOCAL = InterfaceAddress(interface="eth1", address="fe80::1/64")
UPLINK = InterfaceAddress(interface="eth0", address="192.0.2.7/24")
OURS = InterfaceAddress(interface="wt0", address="10.5.0.7/16")


def lan(name: str = "lan", address: str = "10.5.0.254", **fields: Any) -> RouteDoc:
    return make.served(name, "10.5.0.0/16", return_address=address, masquerade=False, **fields)


def found(there: Documents, *addresses: InterfaceAddress) -> dict[str, Return]:
    return returns(there, addresses, "wt0")


def test_the_interface_whose_network_holds_the_address_leads_into_the_lan() -> None:
    assert found(world(lan()), UPLINK, OURS, LAN) == {
        "10.5.0.254": Return(address="10.5.0.254", routes=("lan",), interface="eth1")
    }
    (one,) = found(world(lan(address="fd00:5::fe")), LAN, LAN_V6, LINK_LOCAL).values()
    assert (one.interface, one.source) == ("eth1", "fe80::1")


@pytest.mark.parametrize(
    ("addresses", "problem"),
    [
        ((UPLINK, OURS), "no interface of this host has an address in a network that holds it"),
        (
            (LAN, InterfaceAddress(interface="eth1", address="10.5.0.254/16")),
            "it is an address of this host's own: choose one that no host of the LAN has",
        ),
    ],
)
def test_an_address_that_this_host_cannot_have_says_why(addresses: tuple[InterfaceAddress, ...], problem: str) -> None:
    (one,) = found(world(lan()), *addresses).values()
    assert (one.interface, one.problem) == ("", problem)


def test_routes_that_masquerade_have_no_address_or_are_served_by_others_are_no_matter_of_this_host() -> None:
    others = (
        make.served("masked", "10.5.0.0/16", return_address="10.5.0.253", masquerade=True),
        make.served("plain", "10.5.0.0/16", masquerade=False),
        make.route("used", "10.5.0.0/16", return_address="10.5.0.252", masquerade=False),
    )
    assert found(world(*others), LAN) == {}


def test_candidates_rank_by_their_best_metric_and_then_by_id() -> None:
    there = world(
        lan("a", by=("me", "zoe"), metric=200),
        make.route("b", "10.5.0.0/16", by=("gw", "zoe"), metric=300, return_address="10.5.0.254", masquerade=False),
        make.route("c", "10.5.0.0/16", by="gw2", metric=100, return_address="10.5.0.254", masquerade=False),
        make.route("d", "10.5.0.0/16", by="ann", metric=200, return_address="10.5.0.254", masquerade=False),
    )
    (one,) = found(there, LAN).values()
    assert one.betters == {"gw2", "ann"}
    assert one.routes == ("a",)


def test_a_gateway_that_people_drain_is_to_leave() -> None:
    there = world(lan())
    presences = {"me": PresenceDoc(peer_id="me", agent=True, draining=True)}
    (one,) = found(replace(there, presences=presences), LAN).values()
    assert one.leaving


def test_all_routes_of_an_address_that_is_here_are_held() -> None:
    known = found(world(lan("a"), lan("b"), lan("c", "10.5.0.253")), LAN)
    assert held(known, ["10.5.0.254", "10.9.9.9"]) == {"a", "b"}


def test_what_is_no_address_says_so_and_stops_no_other() -> None:
    known = found(world(lan("broken", "10.5.0.999"), lan()), LAN)
    assert {text: (one.interface, one.problem) for text, one in known.items()} == {
        "10.5.0.999": ("", "it is no address"),
        "10.5.0.254": ("eth1", ""),
    }

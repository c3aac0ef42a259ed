"""Which connections end when another routing peer carries their destinations, and which of them one may forget."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.documents import Documents
from services.agent.core.ha.connections import Carrier, Carriers, Moved, carriers, departed, served
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.ha.longest import Longest
from services.agent.core.intervals import Network, parse
from shared.events.documents import ResolutionDoc, RouteDoc
from tests.unit.agent import make
from tests.unit.agent.make import key, peer, resolution, route

ROUTES = {"lan", "wide", "narrow", "exit"}


def carried(**prefixes: str) -> dict[Network, Carrier]:
    """name → "prefix peer", with "!" for a peer that does not masquerade; the name is the route's id."""
    found = {}
    for name, said in prefixes.items():
        prefix, peer_id = said.split()
        found[parse(prefix)] = Carrier(
            peer_id=peer_id.rstrip("!"), masquerades=not peer_id.endswith("!"), routes=frozenset({name})
        )
    return found


def ends(moved: Moved | None, *addresses: str) -> set[str]:
    """Those of the addresses to which connections end."""
    assert moved is not None
    return {
        text for text in addresses if moved.breaks(Socket(version=6 if ":" in text else 4, destination=number(text)))
    }


def number(text: str) -> int:
    return int(ip_address(text))


@pytest.mark.parametrize(
    ("before", "now", "breaks"),
    [("a", "b", True), ("a!", "b", True), ("a", "b!", True), ("a!", "b!", False)],
)
def test_what_somebody_masquerades_cannot_go_on_through_another(before: str, now: str, breaks: bool) -> None:
    one = Carriers(carried(lan=f"10.1.0.0/16 {before}"))
    moved = one.update(carried(lan=f"10.1.0.0/16 {now}"), ROUTES)
    assert ends(moved, "10.1.2.3", "10.2.0.1") == ({"10.1.2.3"} if breaks else set())
    assert moved is not None
    assert moved.left == {"a": {"lan"}}


def test_what_stays_is_no_move() -> None:
    one = Carriers(carried(lan="10.1.0.0/16 a"))
    assert one.update(carried(lan="10.1.0.0/16 a"), ROUTES) is None


def test_the_longest_prefix_decides() -> None:
    one = Carriers(carried(wide="10.0.0.0/8 a", narrow="10.1.0.0/16 c"))
    moved = one.update(carried(wide="10.0.0.0/8 b", narrow="10.1.0.0/16 c"), ROUTES)
    assert ends(moved, "10.1.2.3", "10.2.0.1") == {"10.2.0.1"}


def test_a_longer_prefix_that_comes_takes_its_addresses_away_from_the_exit() -> None:
    one = Carriers(carried(exit="0.0.0.0/0 a"))
    moved = one.update(carried(exit="0.0.0.0/0 a", narrow="192.0.2.1/32 b"), ROUTES)
    assert ends(moved, "192.0.2.1", "192.0.2.2") == {"192.0.2.1"}
    assert moved is not None
    assert moved.left == {}, "the exit goes on being used through it"


def test_what_nobody_carries_for_a_while_moves_with_whoever_carries_it_next() -> None:
    one = Carriers(carried(lan="10.1.0.0/16 a"))
    assert one.update({}, ROUTES) is None
    assert one.update(carried(lan="10.1.0.0/16 a"), ROUTES) is None, "it came back to the one before"
    assert one.update({}, ROUTES) is None
    moved = one.update(carried(lan="10.1.0.0/16 b"), ROUTES)
    assert ends(moved, "10.1.2.3") == {"10.1.2.3"}


def test_what_nobody_carries_is_moved_where_another_route_covers_it() -> None:
    one = Carriers(carried(wide="10.0.0.0/8 b", narrow="10.1.0.0/16 a"))
    moved = one.update(carried(wide="10.0.0.0/8 b"), ROUTES)
    assert ends(moved, "10.1.2.3", "10.2.0.1") == {"10.1.2.3"}
    assert moved is not None
    assert moved.left == {"a": {"narrow"}}


def test_a_route_that_is_deleted_is_not_waited_for() -> None:
    one = Carriers(carried(lan="10.1.0.0/16 a"))
    assert one.update({}, ROUTES - {"lan"}) is None
    assert one.update(carried(lan="10.1.0.0/16 b"), ROUTES) is None


def test_a_killed_runs_switch_is_noticed_by_the_next_one() -> None:
    """What the device held at the start is what the first pass is compared with."""
    there = documents(route("lan", by=("a", "b")))
    one = Carriers(carriers(there, {key("a"): ["10.1.0.0/16"]}))
    moved = one.update(carriers(there, {key("b"): ["10.1.0.0/16"]}), ROUTES)
    assert ends(moved, "10.1.2.3") == {"10.1.2.3"}


# From documents and the device


def documents(*routes: RouteDoc, resolutions: tuple[ResolutionDoc, ...] = ()) -> Documents:
    return make.documents(make.me(), [peer("a"), peer("b")], routes=routes, resolutions=resolutions)


def told(found: Mapping[Network, Carrier]) -> dict[str, tuple[str, bool]]:
    return {str(network): (one.peer_id, one.masquerades) for network, one in found.items()}


def test_who_carries_a_prefix_is_who_has_it_in_the_device() -> None:
    there = documents(route("lan", by=("a", "b")), route("other", "10.2.0.0/16", by="b", masquerade=False))
    found = carriers(there, {key("a"): ["100.64.0.2/32", "10.1.0.0/16"], key("b"): ["10.2.0.0/16"]})
    assert told(found) == {"10.1.0.0/16": ("a", True), "10.2.0.0/16": ("b", False)}


def test_of_two_routes_of_a_set_that_of_the_routing_peer_says_whether_it_masquerades_r5() -> None:
    there = documents(
        route("one", by="a", network_id="n", masquerade=False), route("other", by="b", network_id="n", masquerade=True)
    )
    assert told(carriers(there, {key("a"): ["10.1.0.0/16"]})) == {"10.1.0.0/16": ("a", False)}
    assert told(carriers(there, {key("b"): ["10.1.0.0/16"]})) == {"10.1.0.0/16": ("b", True)}


def test_addresses_of_names_are_prefixes_too() -> None:
    there = documents(
        route("web", by="a", domains=("x.test",)), resolutions=(resolution("web", x_test=("192.0.2.1", "2001:db8::1")),)
    )
    found = carriers(there, {key("a"): ["192.0.2.1/32", "2001:db8::1/128"]})
    assert told(found) == {"192.0.2.1/32": ("a", True), "2001:db8::1/128": ("a", True)}


# On the routing peer that was left


def flow(source: str, destination: str) -> Flow:
    return Flow(version=6 if ":" in source else 4, protocol=6, source=number(source), destination=number(destination))


@pytest.mark.parametrize(
    ("source", "destination", "goes"),
    [
        ("100.64.0.11", "10.1.2.3", True),
        ("100.64.0.12", "10.1.2.3", False),
        ("100.64.0.11", "10.1.9.9", False),
        ("100.64.0.11", "10.2.0.1", False),
        ("100.64.0.11", "192.0.2.1", False),
        ("fd00:64::b", "2001:db8::1", True),
    ],
)
def test_only_the_senders_connections_into_what_it_left_are_forgotten(
    source: str, destination: str, goes: bool
) -> None:
    there = documents(
        make.served("left"),
        make.served("used", "10.1.9.0/24"),
        make.served("wide", "10.0.0.0/8"),
        make.served("left6", "2001:db8::/64"),
        make.served("not mine", "192.0.2.0/24"),
    )
    behind = served(there, ["left", "used", "wide", "left6"])
    left = dict.fromkeys(("100.64.0.11", "fd00:64::b"), frozenset({"left", "left6", "not mine"}))
    one = flow(source, destination)
    assert departed([one], behind, left) == ([one] if goes else [])


prefixes = st.dictionaries(
    st.builds(lambda n, length: ip_network((n << 24, length), strict=False), st.integers(0, 255), st.integers(0, 12)),
    st.integers(1),
    max_size=12,
)


@given(entries=prefixes, address=st.integers(0, 2**32 - 1))
def test_the_longest_prefix_is_the_one_that_a_search_through_all_finds(
    entries: dict[Network, int], address: int
) -> None:
    covering = [one for one in entries if ip_address(address) in one]
    wanted = max(covering, key=lambda one: one.prefixlen, default=None)
    assert Longest(entries).at(4, address) == (entries[wanted] if wanted is not None else None)
    host = ip_network((address, 32))
    assert Longest(entries).covering(host) == (entries[wanted] if wanted is not None else None)

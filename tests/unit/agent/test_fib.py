"""The routes of a client: what is installed, where it leads, and what is not and why."""

from collections.abc import Iterable

import pytest

from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents
from services.agent.core.kernel import CONTROL_MARK, TABLE, RouteEntry
from services.agent.core.reconcile.desired import desired
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.destinations import covers
from services.agent.core.routing.fib import NO_ADDRESSES, NO_POLICY, NOBODY_CONNECTED, NOBODY_USABLE
from services.agent.core.routing.policyrules import policy_rules
from shared.events.documents import RouteDoc
from tests.fakes.kernel import NOBODY, OPEN, UNREACHABLE, FakeKernel
from tests.unit.agent import make

GW, GW2 = make.peer("gw", number=2), make.peer("gw2", number=3)


def world(*routes: RouteDoc, peers: Iterable[object] = (GW, GW2), **more: object) -> Documents:
    return make.documents(None, peers, routes=routes, **more)  # type: ignore[arg-type]


def kernel(want: Desired) -> FakeKernel:
    """A kernel that holds the routing part of what is wanted."""
    fake = FakeKernel()
    fake.links, fake.rules, fake.routes = dict(want.links), dict(want.rules), dict(want.routes)
    fake.peers = dict(want.peers)
    return fake


def test_a_packet_for_a_routed_network_goes_to_the_routing_peer() -> None:
    there = kernel(desired(world(make.route("r1", "10.1.0.0/16")), make.local(["gw"])))
    assert there.where("10.1.2.9") == make.key("gw")
    assert there.where("10.2.0.1") == OPEN
    assert there.where("100.64.0.3") == make.key("gw2")
    assert there.where("100.64.0.77") == NOBODY


@pytest.mark.parametrize(
    "prefix",
    [
        "10.10.100.0/24",
        "10.111.111.111/32",
        "198.51.100.0/24",
        "0.0.0.0/0",
        "fdb1:848a:7e16::/48",
        "fdb1:848a:7e16:a::b/128",
        "::/0",
        "100.64.0.0/10",
        "100.65.0.0/16",
        "100.0.0.0/8",
    ],
)
def test_prefixes_that_may_be_routed_are(prefix: str) -> None:
    want = desired(world(make.route("r1", prefix)), make.local(["gw"]))
    assert want.routes[prefix] == RouteEntry(prefix=prefix, device="wt0")
    assert prefix in want.peers[make.key("gw")].allowed_ips
    assert (want.skipped, want.routing_peers) == ({}, {"r1": "gw"})


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("127.0.0.1/32", "127.0.0.1/32 is loopback"),
        ("169.254.1.1/32", "169.254.1.1/32 is link-local"),
        ("224.0.0.251/32", "224.0.0.251/32 is multicast"),
        ("239.255.255.250/32", "239.255.255.250/32 is multicast"),
        ("0.0.0.0/32", "0.0.0.0/32 is part of the unspecified network"),
        ("0.0.0.0/1", "0.0.0.0/1 is part of the unspecified network"),
        ("::1/128", "::1/128 is loopback"),
        ("fe80::1/128", "fe80::1/128 is link-local"),
        ("ff02::1/128", "ff02::1/128 is multicast"),
        ("ff01::1/128", "ff01::1/128 is multicast"),
        ("ff00::1/128", "ff00::1/128 is multicast"),
        ("::/128", "::/128 is part of the unspecified network"),
        ("::ffff:10.0.0.0/104", "::ffff:a00:0/104 is IPv4 written as IPv6"),
        ("100.64.75.0/24", "100.64.75.0/24 lies inside the overlay 100.64.0.0/16"),
        ("100.64.75.1/32", "100.64.75.1/32 lies inside the overlay 100.64.0.0/16"),
        ("100.64.0.0/16", "100.64.0.0/16 lies inside the overlay 100.64.0.0/16"),
        ("fd00:64::7/128", "fd00:64::7/128 lies inside the overlay fd00:64::/64"),
        ("0.1.0.0/16", "0.1.0.0/16 is part of the unspecified network"),
        ("240.0.0.0/4", "240.0.0.0/4 is reserved"),
        ("255.255.255.255/32", "255.255.255.255/32 is the broadcast address"),
        ("10.0.0.0/40", "'10.0.0.0/40' is not a prefix"),
        ("", "'' is not a prefix"),
    ],
)
def test_prefixes_that_may_not_be_routed_are_named_and_the_others_installed(prefix: str, why: str) -> None:
    want = desired(world(make.route("bad", prefix), make.route("good", "10.9.0.0/16")), make.local(["gw"]))
    assert want.routes.keys() == {"10.9.0.0/16"}
    assert want.skipped == {"bad": why}


def test_host_bits_are_masked() -> None:
    assert desired(world(make.route("r1", "10.1.2.3/16")), make.local(["gw"])).routes.keys() == {"10.1.0.0/16"}


def test_a_route_whose_routing_peer_no_policy_connects_is_not_used_c4() -> None:
    want = desired(world(make.route("r1", by="unseen"), make.route("r2", "0.0.0.0/0", by="unseen")), make.local())
    assert want.routes == {}
    assert want.skipped == {"r1": NO_POLICY, "r2": NO_POLICY}


@pytest.mark.parametrize(
    ("prefix", "keep", "connected", "where"),
    [
        ("198.51.100.0/24", False, ["gw"], make.key("gw")),
        ("198.51.100.0/24", False, [], OPEN),
        ("198.51.100.0/24", True, [], make.key("gw")),
        ("0.0.0.0/0", False, ["gw"], make.key("gw")),
        ("0.0.0.0/0", False, [], UNREACHABLE),
        ("0.0.0.0/0", True, [], make.key("gw")),
    ],
)
def test_without_a_usable_routing_peer_a_route_is_withdrawn_kept_or_closed_r2(
    prefix: str, keep: bool, connected: list[str], where: str
) -> None:
    want = desired(world(make.route("r1", prefix, keep_route=keep)), make.local(connected))
    assert kernel(want).where("198.51.100.9") == where
    assert want.skipped == ({} if connected or keep else {"r1": NOBODY_CONNECTED})


def test_a_withdrawn_route_takes_its_allowed_ips_with_it_r2() -> None:
    want = desired(world(make.route("r1")), make.local())
    assert want.peers[make.key("gw")].allowed_ips == {"100.64.0.2/32", "fd00:64::2/128"}
    assert want.routing_peers == {}


@pytest.mark.parametrize(
    ("routes", "v6", "where"),
    [
        ([make.route("a", "0.0.0.0/0")], "fd00:64::1", UNREACHABLE),
        ([make.route("a", "0.0.0.0/0")], "", UNREACHABLE),
        ([make.route("a", "0.0.0.0/0"), make.route("a6", "::/0", network_id="a")], "fd00:64::1", make.key("gw")),
        ([make.route("a", "0.0.0.0/0"), make.route("a-v6", "::/0")], "fd00:64::1", make.key("gw")),
        ([make.route("a", "0.0.0.0/0"), make.route("a6", "::/0", network_id="a")], "", UNREACHABLE),
        ([make.route("a", "10.0.0.0/8")], "", OPEN),
    ],
)
def test_an_ipv4_exit_never_leaves_ipv6_in_the_open_g8(routes: list[RouteDoc], v6: str, where: str) -> None:
    there = make.documents(make.me("me", v6=v6), [GW], routes=routes)
    assert kernel(desired(there, make.local(["gw"]))).where("2001:db8::1") == where


def test_an_exit_whose_routing_peer_has_no_ipv6_closes_it_g8() -> None:
    v4_only = make.peer("gw", number=2, v6="")
    there = make.documents(
        None, [v4_only], routes=[make.route("a", "0.0.0.0/0"), make.route("a6", "::/0", network_id="a")]
    )
    want = desired(there, make.local(["gw"]))
    assert kernel(want).where("2001:db8::1") == UNREACHABLE
    assert want.skipped == {"a6": "::/0 needs a routing peer with an IPv6 address in the overlay"}


def test_an_ipv6_exit_alone_whose_routing_peer_lost_its_ipv6_closes_it_r2() -> None:
    there = make.documents(None, [make.peer("gw", number=2, v6="")], routes=[make.route("a", "::/0")])
    host = kernel(desired(there, make.local(["gw"])))
    assert (host.where("2001:db8::1"), host.where("198.51.100.9")) == (UNREACHABLE, OPEN)


@pytest.mark.parametrize("connected", [["gw"], []])
@pytest.mark.parametrize(
    ("exit_", "v4", "v6"),
    [("0.0.0.0/0", UNREACHABLE, UNREACHABLE), ("::/0", OPEN, UNREACHABLE), ("10.0.0.0/8", OPEN, OPEN)],
)
def test_a_table_that_lost_its_routes_does_not_let_an_exits_traffic_into_the_open_r2(
    exit_: str, v4: str, v6: str, connected: list[str]
) -> None:
    host = kernel(desired(world(make.route("a", exit_)), make.local(connected)))
    host.routes.clear()
    assert (host.where("198.51.100.9"), host.where("2001:db8::1")) == (v4, v6)
    assert (host.where("198.51.100.9", mark=CONTROL_MARK), host.where("2001:db8::1", mark=CONTROL_MARK)) == (OPEN, OPEN)


def test_a_host_whose_kernel_has_no_ipv6_gets_no_ipv6_entries() -> None:
    want = desired(world(make.route("a", "0.0.0.0/0")), make.local(["gw"], ipv6=False))
    assert want.routes.keys() == {"0.0.0.0/0"}
    assert {family for family, _ in want.rules} == {"v4"}
    assert want.links["wt0"].addresses == {"100.64.0.1/16"}
    assert want.peers[make.key("gw")].allowed_ips == {"0.0.0.0/0", "100.64.0.2/32"}


def test_an_ipv6_route_needs_an_ipv6_address_on_both_ends() -> None:
    there = make.documents(make.me("me", v6=""), [GW], routes=[make.route("r1", "2001:db8::/32")])
    want = desired(there, make.local(["gw"]))
    assert want.routes == {}
    assert want.skipped == {"r1": "2001:db8::/32 needs an IPv6 address in the overlay, and this host has none"}


def test_the_longest_prefix_comes_before_the_metric_r5() -> None:
    wide, narrow = make.route("r1", "10.0.0.0/8", metric=1), make.route("r2", "10.1.0.0/16", by="gw2", metric=9999)
    there = kernel(desired(world(wide, narrow), make.local(["gw", "gw2"])))
    assert there.where("10.1.2.3") == make.key("gw2")
    assert there.where("10.2.0.1") == make.key("gw")


@pytest.mark.parametrize(
    ("connected", "routing_peer"), [(["gw", "gw2"], "gw2"), (["gw"], "gw"), (["gw2"], "gw2"), ([], None)]
)
def test_an_ha_group_is_carried_by_its_best_connected_routing_peer_r5(
    connected: list[str], routing_peer: str | None
) -> None:
    there = world(make.route("r1", network_id="n", metric=200), make.route("r2", by="gw2", network_id="n", metric=100))
    want = desired(there, make.local(connected))
    assert want.routing_peers == ({"r1": routing_peer, "r2": routing_peer} if routing_peer else {})
    assert kernel(want).where("10.1.0.1") == (make.key(routing_peer) if routing_peer else OPEN)


def test_the_incumbent_stays_while_it_is_as_good_as_the_others_g1() -> None:
    there = world(make.route("r1", by=("gw", "gw2")))
    assert desired(there, make.local(["gw", "gw2"])).routing_peers == {"r1": "gw"}
    assert desired(there, make.local(["gw", "gw2"], routing_peers={"r1": "gw2"})).routing_peers == {"r1": "gw2"}
    assert desired(there, make.local(["gw"], routing_peers={"r1": "gw2"})).routing_peers == {"r1": "gw"}


def test_of_two_networks_with_the_same_prefix_one_carries_it_and_the_other_says_so_r9() -> None:
    there = world(make.route("r1", metric=100), make.route("r2", by="gw2", metric=50))
    want = desired(there, make.local(["gw", "gw2"]))
    assert kernel(want).where("10.1.0.1") == make.key("gw2")
    assert want.skipped == {"r1": "10.1.0.0/16 is routed by network r2"}
    assert desired(there, make.local(["gw"])).routing_peers == {"r1": "gw"}


def test_a_domain_route_becomes_host_routes_of_what_its_names_resolve_to() -> None:
    there = world(
        make.route("r1", domains=("a.test", "*.b.test")),
        resolutions=[
            make.resolution(
                "r1",
                a_test=("10.1.2.9", "2001:db8::9", "127.0.0.1", "100.64.0.9", "nonsense", "10.1.2.9"),
                x_b_test=("10.1.2.10",),
                b_test=("10.1.2.11",),
                other_test=("10.1.2.12",),
            )
        ],
    )
    want = desired(there, make.local(["gw"]))
    assert want.routes.keys() == {"10.1.2.9/32", "10.1.2.10/32", "2001:db8::9/128"}
    assert kernel(want).where("10.1.2.10") == make.key("gw")
    assert want.skipped == {}


def test_a_domain_route_without_addresses_waits() -> None:
    want = desired(world(make.route("r1", domains=("a.test",))), make.local(["gw"]))
    assert (want.routes, want.skipped) == ({}, {"r1": NO_ADDRESSES})


def test_a_domain_route_uses_the_addresses_resolved_for_the_routing_peer_that_carries_it() -> None:
    there = world(
        make.route("r1", domains=("a.test",), network_id="n"),
        make.route("r2", domains=("a.test",), network_id="n", by="gw2"),
        resolutions=[make.resolution("r1", a_test=["10.1.0.1"]), make.resolution("r2", a_test=["10.1.0.2"])],
    )
    assert desired(there, make.local(["gw"])).routes.keys() == {"10.1.0.1/32"}
    assert desired(there, make.local(["gw2"])).routes.keys() == {"10.1.0.2/32"}


@pytest.mark.parametrize(
    ("pattern", "name", "yes"),
    [
        ("a.test", "A.test.", True),
        ("a.test", "x.a.test", False),
        ("*.b.test", "x.b.test", True),
        ("*.b.test", "x.y.b.test", True),
        ("*.b.test", "b.test", False),
        ("*.b.test", "x.ab.test", False),
    ],
)
def test_a_wildcard_is_anything_below_and_not_the_name_itself_r7(pattern: str, name: str, yes: bool) -> None:
    assert covers(pattern, name) is yes


def test_a_deselected_route_is_neither_installed_nor_a_fault() -> None:
    want = desired(world(make.route("r1")), make.local(["gw"], selection=Selection(deselected=frozenset({"r1"}))))
    assert (want.routes, want.skipped, want.routing_peers) == ({}, {}, {})


def test_the_overlays_table_is_asked_after_mains_specific_routes_and_never_for_the_agents_own_packets() -> None:
    want = desired(world(make.route("x", "0.0.0.0/0"), make.route("y", "10.10.0.0/24")), make.local(["gw"]))
    there = kernel(want)
    there.own = ["10.0.0.0/8"]
    assert there.where("192.0.2.1") == make.key("gw")
    assert there.where("192.0.2.1", mark=0x1BD00) == OPEN
    assert there.where("192.0.2.1", mark=0x1BD21) == OPEN
    assert there.where("192.0.2.1", mark=0x12345678) == make.key("gw")
    assert there.where("10.10.0.2") == OPEN, "main wins over a longer prefix of the overlay"


def test_the_rules_are_those_operators_know() -> None:
    rules = {
        (r.family, r.priority, r.table, r.suppress_prefix_length, r.not_mark) for r in policy_rules(ipv6=True).values()
    }
    assert TABLE == 7120
    assert rules == {
        ("v4", 105, 254, 0, None),
        ("v6", 105, 254, 0, None),
        ("v4", 110, 7120, -1, (0x1BD00, 0x1FF00)),
        ("v6", 110, 7120, -1, (0x1BD00, 0x1FF00)),
    }


DECIDED = ("r1", "10.1.0.0/16", ())


def test_who_was_decided_on_carries_whatever_is_connected_g1() -> None:
    both = make.route("r1", "10.1.0.0/16", by=("gw", "gw2"))
    for connected in ([], ["gw"], ["gw", "gw2"]):
        want = desired(world(both), make.local(connected, decisions={DECIDED: "gw2"}, routing_peers={"r1": "gw"}))
        assert kernel(want).where("10.1.2.9") == make.key("gw2")
        assert want.routing_peers == {"r1": "gw2"}


def test_a_decision_on_somebody_who_cannot_carry_is_none_g1() -> None:
    both = make.route("r1", "10.1.0.0/16", by=("gw", "gw2"))
    want = desired(world(both), make.local(["gw"], decisions={DECIDED: "stranger"}))
    assert kernel(want).where("10.1.2.9") == make.key("gw")


def test_nobody_withdraws_a_route_unless_it_is_to_be_kept_r2() -> None:
    nobody = {DECIDED: ""}
    want = desired(world(make.route("r1", "10.1.0.0/16")), make.local(["gw"], decisions=nobody))
    assert kernel(want).where("10.1.2.9") == OPEN
    assert (want.skipped, want.routing_peers) == ({"r1": NOBODY_USABLE}, {})
    kept = make.route("r1", "10.1.0.0/16", by=("gw", "gw2"), keep_route=True)
    want = desired(world(kept), make.local(["gw"], decisions=nobody, routing_peers={"r1": "gw2"}))
    assert kernel(want).where("10.1.2.9") == make.key("gw2")


def test_nobody_makes_an_exit_unreachable_and_never_open_r2() -> None:
    exit_node = make.route("r1", "0.0.0.0/0")
    want = desired(world(exit_node), make.local(["gw"], decisions={("r1", "0.0.0.0/0", ()): ""}))
    assert kernel(want).where("198.51.100.9") == UNREACHABLE

"""The table: who reaches this host and what lies behind it, and how far a change reaches."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import Elements, Replace, change, elements, shape
from services.agent.core.kernel import NftChain, ObservedRuleset, Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.core.rule import Rule
from services.agent.drivers.nft_rules import rule_text
from services.agent.drivers.nft_text import replace_script
from shared.events.documents import PeerDoc, Permit, RouteDoc, RuleDoc
from tests.fakes.kernel import FakeKernel
from tests.unit.agent import make
from tests.unit.agent.make import permit, ports, rule, served

ALICE, BOB, CAROL = "100.64.0.11", "100.64.0.12", "100.64.0.13"
ALICE_V6, BOB_V6 = "fd00:64::b", "fd00:64::c"
PEERS = (
    make.peer("alice", "office", number=11),
    make.peer("bob", "guests", number=12),
    make.peer("carol", "office", "guests", number=13, v6=""),
)


def gateway(
    *routes: RouteDoc, rules: Iterable[RuleDoc] = (), peers: Iterable[PeerDoc] = PEERS, **more: object
) -> Documents:
    return make.documents(make.me("me", "routers"), peers, rules=rules, routes=routes, **more)  # type: ignore[arg-type]


def table(there: Documents) -> Ruleset:
    found = desired(there, make.local()).ruleset
    assert found is not None
    return found


def kernel(there: Documents) -> FakeKernel:
    fake = FakeKernel(sysctls={"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
    fake.ruleset, fake.links = table(there), dict(desired(there, make.local()).links)
    return fake


def texts(chain: NftChain) -> tuple[str, ...]:
    """The rules in nft's words."""
    return tuple(map(rule_text, chain.rules))


def told(there: Documents) -> str:
    """All that nftables is told of the table."""
    return replace_script("whimbrel", table(there), shape(table(there)))


def observed(there: Documents) -> ObservedRuleset:
    return ObservedRuleset(shape=shape(table(there)), elements=elements(table(there)))


def test_a_host_without_documents_lets_only_replies_in_and_nothing_through() -> None:
    there = kernel(Documents())
    there.links = dict(desired(gateway(), make.local()).links)
    assert not there.accepts(ALICE)
    assert there.accepts(ALICE, state="reply")
    assert not there.forwards(ALICE, "10.1.0.1")
    assert there.forwards(ALICE, "10.1.0.1", state="reply")


@pytest.mark.parametrize(
    ("src", "dst", "passes"),
    [
        (ALICE, "10.1.0.1", True),
        (CAROL, "10.1.0.1", True),
        (BOB, "10.1.0.1", False),
        (ALICE, "10.2.0.1", False),
        ("100.64.0.99", "10.1.0.1", False),
    ],
)
def test_without_access_control_groups_only_the_distribution_groups_pass_a2(src: str, dst: str, passes: bool) -> None:
    there = kernel(gateway(served("r1", distribution=("office",))))
    assert there.forwards(src, dst) is passes


@pytest.mark.parametrize(
    ("distribution", "sources", "passing"),
    [
        (("all",), ("office",), {ALICE, CAROL}),
        (("guests",), ("office",), {CAROL}),
        (("office", "guests"), ("all",), {ALICE, BOB, CAROL}),
        (("office",), (), set()),
    ],
)
def test_a_source_is_in_the_rule_and_in_a_distribution_group_a1(
    distribution: tuple[str, ...], sources: tuple[str, ...], passing: set[str]
) -> None:
    there = kernel(gateway(served("r1", "10.1.0.0/16", permit("q", *sources), distribution=distribution)))
    assert {src for src in (ALICE, BOB, CAROL) if there.forwards(src, "10.1.0.1")} == passing


def test_a_peer_named_by_a_rule_must_be_in_a_distribution_group_too_a1() -> None:
    there = kernel(
        gateway(served("r1", "10.1.0.0/16", permit("q", source_peers=("alice", "bob")), distribution=("office",)))
    )
    assert {src for src in (ALICE, BOB, CAROL) if there.forwards(src, "10.1.0.1")} == {ALICE}


def test_access_control_groups_that_no_rule_names_permit_nothing_a3() -> None:
    there = kernel(gateway(served("r1", permits=())))
    assert not there.forwards(ALICE, "10.1.0.1")
    assert there.forwards(ALICE, "10.1.0.1", state="reply")


@pytest.mark.parametrize(
    ("one", "proto", "port", "passes"),
    [
        (permit("q", "all", protocol="tcp"), "tcp", 9, True),
        (permit("q", "all", protocol="tcp"), "udp", 9, False),
        (permit("q", "all", protocol="tcp", ports=ports(80, (8000, 8080))), "tcp", 80, True),
        (permit("q", "all", protocol="tcp", ports=ports(80, (8000, 8080))), "tcp", 8080, True),
        (permit("q", "all", protocol="tcp", ports=ports(80, (8000, 8080))), "tcp", 8081, False),
        (permit("q", "all", protocol="udp", ports=ports(53)), "tcp", 53, False),
        (permit("q", "all", protocol="icmp"), "icmp", 0, True),
        (permit("q", "all", protocol="icmp"), "tcp", 1, False),
        (permit("q", "all", protocol="netbird-ssh"), "tcp", 22, True),
        (permit("q", "all", protocol="netbird-ssh"), "tcp", 80, False),
        (permit("q", "all", protocol="netbird-ssh", ports=ports(2222)), "tcp", 2222, True),
        (permit("q", "all"), "icmp", 0, True),
    ],
)
def test_a_permit_says_which_protocol_and_ports(one: Permit, proto: str, port: int, passes: bool) -> None:
    there = kernel(gateway(served("r1", "10.1.0.0/16", one), served("r6", "2001:db8::/32", one)))
    assert there.forwards(ALICE, "10.1.0.1", proto, port) is passes
    assert there.forwards(ALICE_V6, "2001:db8::1", proto, port) is passes


def test_a_permit_without_ports_is_not_narrowed_by_another_of_the_same_sources() -> None:
    wide, narrow = permit("q1", "all", protocol="tcp"), permit("q2", "all", protocol="tcp", ports=ports(80))
    there = kernel(gateway(served("r1", "10.1.0.0/16", narrow, wide)))
    assert there.forwards(ALICE, "10.1.0.1", "tcp", 9)


def test_equal_and_nested_prefixes_give_the_union_of_all_routes_that_cover_an_address_a5() -> None:
    web, ssh = (
        permit("q1", "office", protocol="tcp", ports=ports(80)),
        permit("q2", "guests", protocol="tcp", ports=ports(22)),
    )
    there = kernel(gateway(served("r1", "10.0.0.0/8", web), served("r2", "10.1.0.0/16", ssh)))
    assert there.forwards(ALICE, "10.1.0.1", port=80)
    assert there.forwards(BOB, "10.1.0.1", port=22)
    assert not there.forwards(ALICE, "10.1.0.1", port=22), "one permit's sources do not get another's ports"
    assert not there.forwards(BOB, "10.2.0.1", port=22)
    assert there.forwards(ALICE, "10.2.0.1", port=80)


@pytest.mark.parametrize("state", ["new", "reply", "related"])
def test_a_drop_comes_before_accepts_and_before_replies_on_forward_a7(state: str) -> None:
    drop = permit("q2", "office", action="drop", protocol="tcp", ports=ports(22))
    there = kernel(gateway(served("r1", "10.1.0.0/16", permit("q1", "all"), drop)))
    assert not there.forwards(ALICE, "10.1.0.1", port=22, state=state)  # type: ignore[arg-type]
    assert there.forwards(ALICE, "10.1.0.1", port=80)
    assert there.forwards(BOB, "10.1.0.1", port=22)


def test_a_drop_of_one_route_also_holds_where_another_covers_the_same_address_a7() -> None:
    drop = permit("q2", "office", action="drop")
    there = kernel(gateway(served("r1", "10.0.0.0/8", permit("q1", "all")), served("r2", "10.1.0.0/16", drop)))
    assert not there.forwards(ALICE, "10.1.0.1")
    assert there.forwards(ALICE, "10.2.0.1")


@pytest.mark.parametrize("state", ["new", "reply", "related"])
def test_a_drop_comes_before_accepts_and_before_replies_on_input_a7(state: str) -> None:
    drop = rule("q2", ["office"], ["routers"], action="drop", protocol="tcp", ports=ports(22))
    there = kernel(gateway(rules=[rule("q1"), drop]))
    assert not there.accepts(ALICE, port=22, state=state)  # type: ignore[arg-type]
    assert there.accepts(ALICE, port=80)


def test_what_a_peer_rule_permits_goes_no_further_than_this_host_and_a_permit_no_less_far_a8() -> None:
    there = kernel(gateway(served("r1", distribution=("guests",)), rules=[rule("q1", ["office"], ["routers"])]))
    assert (there.accepts(ALICE), there.forwards(ALICE, "10.1.0.1")) == (True, False)
    assert (there.accepts(BOB), there.forwards(BOB, "10.1.0.1")) == (False, True)


@pytest.mark.parametrize(
    ("one", "accepted"),
    [
        (rule("q", ["office"], ["routers"]), {ALICE, CAROL, ALICE_V6}),
        (rule("q", ["routers"], ["office"]), set()),
        (rule("q", ["routers"], ["office"], bidirectional=True), {ALICE, CAROL, ALICE_V6}),
        (rule("q", ["office"], ["elsewhere"]), set()),
        (rule("q", [], [], source_peers=("bob",), destination_peers=("me",)), {BOB, BOB_V6}),
        (rule("q", [], [], source_peers=("me",), destination_peers=("bob",), bidirectional=True), {BOB, BOB_V6}),
        (rule("q"), {ALICE, BOB, CAROL, ALICE_V6, BOB_V6}),
    ],
)
def test_a_peer_rule_opens_this_host_when_it_is_a_destination_or_a_bidirectional_source(
    one: RuleDoc, accepted: set[str]
) -> None:
    there = kernel(gateway(rules=[one]))
    assert {src for src in (ALICE, BOB, CAROL, ALICE_V6, BOB_V6, "100.64.0.99") if there.accepts(src)} == accepted


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ({"v4": ALICE, "v6": "fd00:64::99"}, f"its overlay address {ALICE}/32 belongs to another host"),
        ({"v4": "100.64.0.99", "v6": ALICE_V6}, f"its overlay address {ALICE_V6}/128 belongs to another host"),
        ({"wireguard_key": make.key("alice")}, "its WireGuard key belongs to another host"),
        ({"wireguard_key": make.key("me")}, "its WireGuard key belongs to another host"),
        ({"wireguard_key": "none"}, "its WireGuard key is none"),
        ({"wireguard_key": f"{'A' * 43}="}, "its WireGuard key is none"),
        ({"v4": "100.64.0.1"}, "its overlay address 100.64.0.1/32 belongs to another host"),
    ],
)
def test_a_peer_that_is_left_out_lends_its_rights_to_nobody_and_carries_nothing(
    other: dict[str, str], fault: str
) -> None:
    """Its address may be another's, or may be taken by whoever carries a prefix around it."""
    imposter = make.peer("zoe", "admins", **other)  # type: ignore[arg-type]
    admins_only = rule("q1", ["admins"], ["routers"])
    there = gateway(make.route("r1", by="zoe"), rules=[admins_only], peers=[*PEERS, imposter])
    host = kernel(there)
    assert not any(host.accepts(src) for src in (ALICE, ALICE_V6, imposter.address_v4, imposter.address_v6))
    want = desired(there, make.local(["zoe"]))
    assert want.skipped["zoe"] == fault
    assert want.routes == {}


@pytest.mark.parametrize(
    "dst", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.99", "169.254.0.1", "224.0.0.1", "fd12::1"]
)
def test_an_exit_node_does_not_open_private_networks_g9(dst: str) -> None:
    src = ALICE_V6 if ":" in dst else ALICE
    exits = (served("x", "0.0.0.0/0"), served("x6", "::/0"))
    assert not kernel(gateway(*exits)).forwards(src, dst)
    assert kernel(gateway(*exits)).forwards(ALICE, "198.51.100.1")
    assert kernel(gateway(*exits)).forwards(ALICE_V6, "2001:db8::1")


def test_a_private_network_behind_an_exit_node_needs_a_route_of_its_own_g9() -> None:
    there = kernel(gateway(served("x", "0.0.0.0/0"), served("lan", "192.168.1.0/24")))
    assert there.forwards(ALICE, "192.168.1.1")
    assert not there.forwards(ALICE, "192.168.2.1")


def test_a_prefix_around_the_overlay_does_not_open_it() -> None:
    there = kernel(gateway(served("r1", "100.0.0.0/8")))
    assert there.forwards(ALICE, "100.1.0.1")
    assert not there.forwards(ALICE, BOB)


@pytest.mark.parametrize(
    ("dst", "masqueraded"),
    [("10.1.2.3", True), ("10.1.3.3", False), ("10.2.0.1", True), ("192.0.2.1", False), ("198.51.100.1", False)],
)
def test_masquerade_is_decided_by_the_longest_prefix_g10(dst: str, masqueraded: bool) -> None:
    there = kernel(
        gateway(
            served("r1", "10.0.0.0/8"),
            served("r2", "10.1.0.0/16", masquerade=False),
            served("r3", "10.1.2.0/24"),
            served("r4", "192.0.2.0/24", masquerade=False),
        )
    )
    assert there.masquerades(ALICE, dst) is masqueraded


def test_traffic_back_into_the_tunnel_is_not_masqueraded_g10() -> None:
    (postrouting,) = (chain for chain in table(gateway(served("r1"))).chains if chain.name == "postrouting")
    assert texts(postrouting) == (
        'iifname "wt0" oifname != "wt0" ip daddr @masquerade_v4 masquerade',
        'iifname "wt0" oifname != "wt0" ip6 daddr @masquerade_v6 masquerade',
    )


def test_segments_into_the_tunnel_fit_its_mtu() -> None:
    (clamp,) = (chain for chain in table(gateway()).chains if chain.name == "clamp")
    assert texts(clamp) == (
        'oifname "wt0" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1240',
        'oifname "wt0" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1220',
    )


def test_a_served_domain_route_permits_what_its_names_resolve_to() -> None:
    there = kernel(
        gateway(
            served("r1", "", domains=("a.test",)),
            resolutions=[make.resolution("r1", a_test=["198.51.100.7", "2001:db8::7"], b_test=["198.51.100.8"])],
        )
    )
    assert there.forwards(ALICE, "198.51.100.7")
    assert there.forwards(ALICE_V6, "2001:db8::7")
    assert there.masquerades(ALICE, "198.51.100.7")
    assert not there.forwards(ALICE, "198.51.100.8")


BAD = ports((90, 80))


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (permit("q", "all", protocol="tcp", ports=BAD), "a permit of rule q: 90-80 are no ports"),
        (permit("q", "all", protocol="tcp", ports=ports(0)), "a permit of rule q: 0-0 are no ports"),
        (permit("q", "all", protocol="udp", ports=ports(70000)), "a permit of rule q: 70000-70000 are no ports"),
        (permit("q", "all", protocol="icmp", ports=ports(1)), "a permit of rule q: protocol icmp has no ports"),
    ],
)
def test_a_permit_that_makes_no_sense_is_named_and_the_others_hold(one: Permit, why: str) -> None:
    want = desired(gateway(served("r1", "10.1.0.0/16", one, permit("q2", "office", protocol="tcp"))), make.local())
    assert want.skipped == {"r1": why}
    fake = kernel(gateway(served("r1", "10.1.0.0/16", one, permit("q2", "office", protocol="tcp"))))
    assert fake.forwards(ALICE, "10.1.0.1")
    assert not fake.forwards(BOB, "10.1.0.1", "udp", 80)


def test_a_drop_rule_that_makes_no_sense_drops_all_ports_rather_than_none() -> None:
    drop = rule("q2", action="drop", protocol="tcp", ports=BAD)
    there = gateway(rules=[rule("q1"), drop])
    assert desired(there, make.local()).skipped == {"q2": "90-80 are no ports"}
    assert not kernel(there).accepts(ALICE, "tcp", 443)
    assert kernel(there).accepts(ALICE, "udp", 443)


def test_a_served_route_with_a_refused_prefix_is_named_and_serves_nothing() -> None:
    want = desired(gateway(served("bad", "127.0.0.0/8"), served("good", "10.1.0.0/16")), make.local())
    assert want.skipped == {"bad": "127.0.0.0/8 is loopback"}
    assert kernel(gateway(served("bad", "127.0.0.0/8"), served("good", "10.1.0.0/16"))).forwards(ALICE, "10.1.0.1")


def test_a_table_that_is_as_desired_needs_no_change() -> None:
    there = gateway(served("r1"), rules=[rule("q1")])
    assert change(table(there), observed(there)) is None


def test_another_shape_replaces_the_table() -> None:
    before, after = gateway(), gateway(rules=[rule("q1")])
    assert change(table(after), observed(before)) == Replace(table(after))
    assert change(table(after), ObservedRuleset(shape="", elements={})) == Replace(table(after))


DAVE = make.peer("dave", "office", number=14)


def changed(before: Documents, after: Documents) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    found = change(table(after), observed(before))
    assert isinstance(found, Elements)
    return dict(found.add), dict(found.remove)


def test_a_peer_that_comes_or_goes_is_an_element() -> None:
    few, many = gateway(rules=[rule("q1", ["office"])]), gateway(rules=[rule("q1", ["office"])], peers=(*PEERS, DAVE))
    added, removed = changed(few, many)
    assert (set(added.values()), removed) == ({frozenset({"100.64.0.14"}), frozenset({"fd00:64::e"})}, {})
    assert changed(many, few) == ({}, added)


def test_another_route_with_permits_that_are_there_already_is_an_element() -> None:
    one, two = gateway(served("r1")), gateway(served("r1"), served("r2", "10.2.0.0/16"))
    added, removed = changed(one, two)
    assert added.keys() == {"permits_v4", "masquerade_v4"}
    assert added["masquerade_v4"] == {"10.2.0.0/16"}
    assert removed == {}


def test_switching_masquerade_is_an_element() -> None:
    added, removed = changed(gateway(served("r1")), gateway(served("r1", masquerade=False)))
    assert added == {}
    assert removed == {"masquerade_v4": {"10.1.0.0/16"}}


def test_the_same_documents_in_another_order_give_the_same_shape() -> None:
    permits = (permit("q1", "office", protocol="tcp"), permit("q2", "guests"))
    one = gateway(served("r1", "10.1.0.0/16", *permits), rules=[rule("a", ["office"]), rule("b", ["guests"])])
    other = gateway(served("r1", "10.1.0.0/16", *permits[::-1]), rules=[rule("b", ["office"]), rule("a", ["guests"])])
    assert told(one) == told(other)
    assert change(table(one), observed(other)) is None, "other ids alone are nothing to the kernel"


def test_elements_are_no_part_of_the_shape_and_everything_else_is() -> None:
    there = table(gateway(served("r1"), rules=[rule("q1")]))
    empty = replace(there, sets=tuple(replace(one, elements=frozenset()) for one in there.sets))
    assert shape(empty) == shape(there)
    other_rule = replace(there.chains[0], rules=(*there.chains[0].rules, Rule((), "drop")))
    assert shape(replace(there, chains=(other_rule, *there.chains[1:]))) != shape(there)
    assert shape(replace(there, sets=there.sets[1:])) != shape(there)
    assert shape(replace(there, maps=there.maps[1:])) != shape(there)
    assert len(shape(there)) == 50


def test_many_peers_rules_of_the_same_sources_are_one_rule_with_a_set_of_ports() -> None:
    rules = [rule(f"q{port}", ["office"], protocol="tcp", ports=ports(port)) for port in (22, 80, 81, 443)]
    (chain,) = (chain for chain in table(gateway(rules=rules)).chains if chain.name == "input_overlay")
    assert sum("tcp dport { 22, 80-81, 443 } counter accept" in text for text in texts(chain)) == 2
    assert len([text for text in texts(chain) if not any(name in text for name in ("@closed_", "echo-request"))]) == 6

"""Who reads of whom (decision C3, reference control-plane §3.1, §8.6, §8.9)."""

import pytest
from msgspec.structs import replace

from services.management.core.entities import Entity, Ref
from services.management.core.feed.compose import documents
from services.management.core.model.policy import PolicyRule, ResourceRef
from services.management.core.state import AccountState
from shared.events.documents import PeerDoc, PortRange, RuleDoc, SelfDoc, SettingsDoc
from tests import builders
from tests.builders import ALL, group, peer, policy, route, rule, state
from tests.unit.management_feed.reading import affected, changed, read, seen_peers

HOSTS = tuple(peer(f"P{n}", f"G{n}") for n in range(5))
GROUPS = tuple(group(f"G{n}") for n in range(5))


def account(*entities: Entity) -> AccountState:
    """Peers P0 to P4, each in a group of its own, and no policy but those given."""
    return state(*GROUPS, *HOSTS, *entities)


def connect(name: str, sources: str, destinations: str, **fields: object) -> Entity:
    return policy(
        name, rule(f"{name}-rule", sources=tuple(sources.split()), destinations=tuple(destinations.split()), **fields)
    )


def peer_ref(name: str) -> ResourceRef:
    return ResourceRef(id=name, type="peer")


def test_a_peer_without_policies_reads_of_itself_and_the_settings_only() -> None:
    assert set(read(account(), "P0")) == {("self", "P0"), ("settings", "account")}


def test_the_self_document_says_who_the_peer_is_and_what_it_may_read() -> None:
    assert read(account(), "P1")["self", "P1"] == SelfDoc(
        peer_id="P1",
        name="P1",
        fqdn="p1.whimbrel.test",
        wireguard_key=HOSTS[1].wireguard_key,
        address_v4=HOSTS[1].address_v4,
        address_v6=HOSTS[1].address_v6,
        groups=("G1", ALL),
        audiences=("g.G1", f"g.{ALL}", "p.P1"),
        labels=("p1",),
    )


def test_the_settings_are_those_of_the_account() -> None:
    assert read(account(), "P0")["settings", "account"] == SettingsDoc(
        overlay_v4="100.64.0.0/16",
        overlay_v6="fd00:64::/64",
        dns_domain="whimbrel.test",
        forwarder_port=22054,
        routing_peer_dns_resolution=True,
    )


@pytest.mark.parametrize(
    "fields", [{"bidirectional": True}, {"action": "drop"}, {"protocol": "icmp"}, {"ports": ("22",)}]
)
def test_c3_a_rule_in_force_shows_each_side_to_the_other_whatever_it_allows(fields: dict[str, object]) -> None:
    there = account(connect("q", "G0", "G1", **fields))
    assert [seen_peers(there, name) for name in ("P0", "P1", "P2")] == [{"P1"}, {"P0"}, set()]


@pytest.mark.parametrize(
    "off",
    [
        policy("q", rule("q-rule", sources=("G0",), destinations=("G1",)), enabled=False),
        policy("q", rule("q-rule", sources=("G0",), destinations=("G1",), enabled=False)),
    ],
)
def test_c3_a_disabled_policy_and_a_disabled_rule_show_nothing(off: Entity) -> None:
    assert set(read(account(off), "P0")) == {("self", "P0"), ("settings", "account")}


def test_c3_only_the_disabled_rule_of_a_policy_is_missing() -> None:
    on = rule("on", sources=("G0",), destinations=("G1",), protocol="tcp", ports=("3000",))
    off = rule("off", sources=("G0",), destinations=("G2",), protocol="tcp", ports=("3001",), enabled=False)
    there = account(policy("q", on, off))
    assert ("rule", "on") in read(there, "P0")
    assert ("rule", "off") not in read(there, "P0")
    assert seen_peers(there, "P0") == {"P1"}


def test_c3_members_of_a_group_see_each_other_when_a_rule_joins_the_group_with_itself() -> None:
    there = account(peer("P9", "G0"), connect("q", "G0", "G0"))
    assert seen_peers(there, "P0") == {"P9"}


def test_c3_all_sees_all_under_the_default_policy() -> None:
    there = account(policy("default"))
    assert seen_peers(there, "P3") == {"P0", "P1", "P2", "P4"}


@pytest.mark.parametrize(
    "direct, pairs",
    [
        (rule("r", sources=(), source_resource=peer_ref("P3"), destinations=("G0",)), {"P3": {"P0"}, "P0": {"P3"}}),
        (
            rule("r", sources=("G0",), destinations=(), destination_resource=peer_ref("P4")),
            {"P0": {"P4"}, "P4": {"P0"}},
        ),
        (
            rule("r", sources=(), source_resource=peer_ref("P3"), destinations=(), destination_resource=peer_ref("P4")),
            {"P3": {"P4"}, "P4": {"P3"}},
        ),
        (rule("r", sources=("G0",), destinations=(), destination_resource=ResourceRef(id="P4", type="host")), {}),
        (rule("r", sources=("G0",), destinations=(), destination_resource=peer_ref("not.an.id")), {}),
    ],
)
def test_c3_a_peer_named_directly_is_a_side_of_its_own(direct: PolicyRule, pairs: dict[str, set[str]]) -> None:
    there = account(policy("q", direct))
    assert {name: seen for name in there.peers if (seen := seen_peers(there, name))} == pairs


def test_both_sides_read_the_rule_with_its_ports_sorted() -> None:
    there = account(connect("q", "G1 G0", "G2", protocol="tcp", ports=("443", "80"), bidirectional=True))
    document = RuleDoc(
        rule_id="q-rule",
        policy_id="q",
        action="accept",
        protocol="tcp",
        bidirectional=True,
        ports=(PortRange(80, 80), PortRange(443, 443)),
        sources=("G0", "G1"),
        source_peers=(),
        destinations=("G2",),
        destination_peers=(),
    )
    assert [read(there, name).get(("rule", "q-rule")) for name in ("P0", "P1", "P2", "P3")] == [document] * 3 + [None]


def test_a_port_range_stays_a_range() -> None:
    there = account(connect("q", "G0", "G1", protocol="tcp", port_ranges=(PortRange(8080, 8090),)))
    document = read(there, "P1")["rule", "q-rule"]
    assert isinstance(document, RuleDoc)
    assert document.ports == (PortRange(8080, 8090),)


def test_a_peer_document_names_only_groups_that_a_policy_or_a_route_names() -> None:
    there = account(peer("P9", "G0", "G2", "G3", "G4"), connect("q", "G0", "G1"), route("lan", groups=("G3",)))
    document = read(there, "P1")["peer", "P9"]
    assert isinstance(document, PeerDoc)
    assert document.groups == ("G0", "G3")
    assert document.fqdn == "p9.whimbrel.test"


def test_a_document_is_written_once_per_audience_and_not_once_per_peer() -> None:
    crowd = [peer(f"m{n}", "G0") for n in range(50)]
    written = documents(account(*crowd, connect("q", "G0", "G1")))
    assert {key.audience for key in written if (key.kind, key.id) == ("peer", "m7")} == {"g.G1"}
    assert {key.audience for key in written if key.kind == "rule"} == {"g.G0", "g.G1"}


def renamed(name: str) -> Entity:
    return replace(HOSTS[int(name[1])], name="renamed")


@pytest.mark.parametrize(
    "entities, who, expected",
    [
        ([connect("q", "G0", "G1")], "P0", {"P0", "P1"}),
        ([connect("q", "G0", "G1")], "P1", {"P0", "P1"}),
        ([connect("q", "G0", "G1")], "P2", {"P2"}),
        ([connect("q", "G0 G1", "G2")], "P0", {"P0", "P2"}),
        ([connect("q", "G0", "G1"), connect("s", "G2", "G3")], "P0", {"P0", "P1"}),
        ([connect("q", "G0", "G1"), connect("s", "G2", "G3")], "P2", {"P2", "P3"}),
        ([connect("q", "G0", "G1"), connect("s", "G2", "G3")], "P4", {"P4"}),
    ],
)
def test_a_renamed_peer_is_news_to_itself_and_to_those_who_see_it(
    entities: list[Entity], who: str, expected: set[str]
) -> None:
    before = account(*entities)
    assert affected(before, changed(before, renamed(who))) == expected


def test_a_renamed_peer_of_two_groups_is_news_to_the_far_sides_of_both() -> None:
    both = peer("P0", "G0", "G1")
    before = account(both, connect("q", "G0", "G2"), connect("s", "G1", "G3"))
    after = changed(before, replace(both, name="renamed"))
    assert affected(before, after) == {"P0", "P2", "P3"}


@pytest.mark.parametrize(
    "change, expected",
    [
        ([peer("P1", "G1", "G0"), peer("P3", "G3", "G0")], {"P0", "P1", "P2", "P3"}),
        ([peer("P4", "G4", "G3")], {"P4"}),
        ([connect("s", "G3", "G4")], {"P3", "P4"}),
        ([builders.setup_key("key", auto_groups=("G0",))], set()),
        ([group("G0", id="G0")], set()),
    ],
)
def test_a_change_is_news_only_where_a_policy_reaches(change: list[Entity], expected: set[str]) -> None:
    before = account(peer("P2", "G2", "G0"), connect("q", "G0", "G1"))
    assert affected(before, changed(before, *change)) == expected


def test_deleting_a_policy_is_news_to_its_sides_only() -> None:
    before = account(connect("q", "G0", "G1"), connect("s", "G2", "G3"))
    after = changed(before, deletes=[Ref("policy", "q")])
    assert affected(before, after) == {"P0", "P1"}
    assert seen_peers(after, "P0") == set()


def test_c5_a_deleted_peer_leaves_no_document() -> None:
    before = account(policy("default"), route("lan", peer="P4"))
    after = changed(before, deletes=[Ref("peer", "P4")])
    assert not [key for key in documents(after) if "P4" in (key.id, key.audience.removeprefix("p."))]
    assert affected(before, after) == {"P0", "P1", "P2", "P3"}

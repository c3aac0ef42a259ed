"""Who gets a route, and what its routing peers let through.

Decisions A1, A2, A3 and C4; reference control-plane §3.3, §3.5, §8.5.
"""

import pytest
from msgspec.structs import replace

from services.management.core.entities import Entity, Ref
from services.management.core.feed.compose import documents
from services.management.core.feed.unit import Observed
from services.management.core.model.policy import ResourceRef
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.documents import Permit, PortRange, ResolutionDoc, ResolvedAddress, ResolvedName, RouteDoc
from tests import builders
from tests.builders import ALL, group, peer, policy, route, rule, state
from tests.unit.management_feed.reading import changed, permits_of, read, routers

DEFAULT = policy("default")


def hosts(*memberships: str) -> list[Entity]:
    """Peers peer1, peer2, … with the groups named after their number: hosts("a", "a b") gives two."""
    groups = {name for membership in memberships for name in membership.split()}
    peers = [peer(f"peer{n}", *membership.split()) for n, membership in enumerate(memberships, start=1)]
    return [*map(group, sorted(groups)), *peers]


def a_permit(**fields: object) -> Permit:
    plain = Permit(
        rule_id="web", action="accept", protocol="tcp", ports=(PortRange(80, 80),), sources=("dev",), source_peers=()
    )
    return replace(plain, **fields)


WEB = rule("web", sources=("dev",), destinations=("lan",), protocol="tcp", ports=("80",))
GUARDED = route("r", peer="peer1", groups=("dev",), access_control_groups=("lan",))


def guarded(*policies: Entity, served: Route = GUARDED) -> AccountState:
    """peer1 routes, peer2 is a developer, peer3 is in sales, peer4 belongs to the group that stands for the LAN."""
    connects = policy("connects", rule("connects-rule", sources=("dev",), destinations=("gateways",)))
    return state(*hosts("gateways", "dev", "sales", "lan"), connects, served, *policies)


def test_route_sync_follows_every_step_of_a_routes_life() -> None:
    sync = route("r", "192.168.0.0/16", peer="peer1", groups=("g1",), access_control_groups=("g1",))
    fresh = state(*hosts("g1", ""), DEFAULT)
    assert [routers(fresh, "peer1"), routers(fresh, "peer2")] == [{}, {}]
    disabled = changed(fresh, replace(sync, enabled=False))
    assert routers(disabled, "peer1") == {}
    enabled = changed(disabled, sync)
    assert [routers(enabled, "peer1"), routers(enabled, "peer2")] == [{"r": ("peer1",)}, {}]
    joined = changed(enabled, peer("peer2", "g1"))
    assert [routers(joined, "peer1"), routers(joined, "peer2")] == [{"r": ("peer1",)}] * 2
    only_peer1 = policy("only", rule("only-rule", sources=("solo",), destinations=("solo",)))
    apart = changed(joined, group("solo"), peer("peer1", "g1", "solo"), only_peer1, deletes=[Ref("policy", "default")])
    assert [routers(apart, "peer1"), routers(apart, "peer2")] == [{"r": ("peer1",)}, {}]
    deleted = changed(apart, deletes=[Ref("route", "r")])
    assert routers(deleted, "peer1") == {}


def test_route_sync_with_peer_groups_names_each_routing_peer_once() -> None:
    ha = route("r", "192.168.0.0/16", peer_groups=("ha1", "ha2"), groups=("g1", "g2"))
    there = state(*hosts("ha1 ha2 g1", "ha1 g2", "ha1", "ha2"), DEFAULT, ha)
    for name in ("peer1", "peer2", "peer4"):
        assert routers(there, name) == {"r": (name,)}
    without_2 = changed(there, peer("peer2", "g2"))
    assert routers(without_2, "peer2") == {"r": ("peer1", "peer3", "peer4")}
    without_4 = changed(without_2, peer("peer4"))
    assert routers(without_4, "peer2") == {"r": ("peer1", "peer3")}
    again = changed(without_4, peer("peer4", "ha2"))
    assert routers(again, "peer1") == {"r": ("peer1",)}
    assert routers(again, "peer2") == {"r": ("peer1", "peer3", "peer4")}
    assert routers(changed(again, deletes=[Ref("route", "r")]), "peer2") == {}


@pytest.mark.parametrize(
    "before, step, news",
    [
        ([], [route("r", peer_groups=("empty",), groups=("empty",))], False),
        ([], [route("r", peer="peer2", groups=("others",))], False),
        ([], [route("r", peer="peer1", groups=("others",))], True),
        ([route("r", peer="peer1", groups=("others",))], [route("r", peer="peer1", groups=("own", "others"))], True),
        ([route("r", peer="peer1", groups=("others",))], [Ref("route", "r")], True),
        ([route("r", peer_groups=("empty",), groups=("others",))], [peer("peer1", "own", "empty")], True),
        ([route("r", peer="peer2", groups=("empty",))], [peer("peer1", "own", "empty")], True),
    ],
)
def test_route_account_peers_update_reaches_peer1_when_the_route_is_its_business(
    before: list[Entity], step: list[Entity | Ref], news: bool
) -> None:
    there = state(*hosts("own", "others", "others"), group("empty"), DEFAULT, *before)
    upserts = [each for each in step if not isinstance(each, Ref)]
    after = changed(there, *upserts, deletes=[each for each in step if isinstance(each, Ref)])
    kept = [read(account, "peer1").get(("route", "r")) for account in (there, after)]
    assert (kept[0] != kept[1]) is news


def test_a_client_reads_the_route_without_permits_and_the_routing_peer_with_them() -> None:
    lan = route("r", peer="peer1", groups=("dev",), metric=7, masquerade=True, keep_route=True)
    for_clients = RouteDoc(
        route_id="r",
        network_id="r",
        network="10.0.0.0/24",
        domains=(),
        metric=7,
        masquerade=True,
        keep_route=True,
        skip_auto_apply=False,
        routing_peers=("peer1",),
        distribution=("dev",),
        permits=None,
    )
    there = guarded(served=lan)
    assert read(there, "peer2")["route", "r"] == for_clients
    assert read(there, "peer1")["route", "r"] == replace(for_clients, permits=(OPEN,), alone=True)
    assert ("route", "r") not in read(there, "peer3")


OPEN = Permit(rule_id="", action="accept", protocol="all", ports=(), sources=("dev",), source_peers=())


@pytest.mark.parametrize(
    ("other", "alone"),
    [
        (route("s", network_id="r", peer="peer3"), False),
        (route("s", network_id="r", peer="peer3", enabled=False), True),
        (route("s", network_id="s", peer="peer3"), True),
        (route("s", "10.0.0.0/16", network_id="r", peer="peer3"), True),
    ],
)
def test_g6_a_routing_peer_is_told_whether_another_route_is_of_its_ha_set(other: Route, alone: bool) -> None:
    there = guarded(other, served=route("r", peer="peer1", groups=("dev",)))
    copies = {key.audience: d.alone for key, d in documents(there).items() if key.id == "r" and isinstance(d, RouteDoc)}
    assert copies == {"p.peer1": alone, "g.dev": False}


def test_a_group_that_serves_a_route_and_gets_it_holds_the_copy_with_permits() -> None:
    both = route("r", peer_groups=("dev",), groups=("dev", "sales"))
    copies = {
        key.audience: document.permits
        for key, document in documents(guarded(served=both)).items()
        if isinstance(document, RouteDoc)
    }
    assert copies == {"g.dev": (replace(OPEN, sources=("dev", "sales")),), "g.sales": None}


@pytest.mark.parametrize(
    "nobodys",
    [
        route("r", groups=("dev",)),
        route("r", peer_groups=("empty",), groups=("dev",)),
        route("r", peer="gone", groups=("dev",)),
        route("r", peer="peer1", groups=("dev",), enabled=False),
    ],
)
def test_a_route_that_is_disabled_or_that_nobody_serves_has_no_document(nobodys: Route) -> None:
    written = documents(guarded(group("empty"), served=nobodys))
    assert [key for key in written if key.kind == "route"] == []


def test_c4_a_distributed_route_is_used_only_when_a_policy_connects_client_and_routing_peer() -> None:
    lan = route("r", peer="peer1", groups=("dev", "sales"))
    there = guarded(served=lan)
    assert ("route", "r") in read(there, "peer3")
    assert routers(there, "peer3") == {}
    assert routers(there, "peer2") == {"r": ("peer1",)}


def test_c4_a_policy_that_only_drops_connects_them_too() -> None:
    drop = policy("drop", rule("drop-rule", action="drop", sources=("sales",), destinations=("gateways",)))
    there = guarded(drop, served=route("r", peer="peer1", groups=("sales",)))
    assert routers(there, "peer3") == {"r": ("peer1",)}


def test_a2_without_access_control_groups_the_distribution_groups_are_permitted_and_nobody_else() -> None:
    lan = route("r", peer="peer1", groups=("sales", "dev"))
    assert permits_of(guarded(served=lan), "peer1", "r") == (replace(OPEN, sources=("dev", "sales")),)


def test_a3_access_control_groups_that_no_policy_names_permit_nothing() -> None:
    assert permits_of(guarded(), "peer1", "r") == ()


def test_a1_the_sources_of_the_rule_that_names_the_group_are_permitted() -> None:
    assert permits_of(guarded(policy("q", WEB)), "peer1", "r") == (a_permit(),)


def test_a1_the_other_rules_of_the_same_policy_permit_nothing() -> None:
    elsewhere = rule("ssh", sources=("sales",), destinations=("gateways",), protocol="tcp", ports=("22",))
    assert permits_of(guarded(policy("q", elsewhere, WEB)), "peer1", "r") == (a_permit(),)


@pytest.mark.parametrize("off", [policy("q", WEB, enabled=False), policy("q", replace(WEB, enabled=False))])
def test_a1_a_disabled_policy_and_a_disabled_rule_permit_nothing(off: Entity) -> None:
    assert permits_of(guarded(off), "peer1", "r") == ()


def test_a1_a_group_that_is_only_a_source_of_the_rule_permits_nothing() -> None:
    backwards = policy("q", rule("web", sources=("lan",), destinations=("dev",), bidirectional=True))
    assert permits_of(guarded(backwards), "peer1", "r") == ()


def test_a1_a_rule_that_names_two_of_the_groups_is_one_permit() -> None:
    two = route("r", peer="peer1", groups=("dev",), access_control_groups=("lan", "sales"))
    both = policy("q", replace(WEB, destinations=("lan", "sales")))
    assert permits_of(guarded(both, served=two), "peer1", "r") == (a_permit(),)


def test_a1_a_peer_named_as_source_is_permitted_alone() -> None:
    direct = replace(WEB, sources=(), source_resource=ResourceRef(id="peer2", type="peer"))
    assert permits_of(guarded(policy("q", direct)), "peer1", "r") == (a_permit(sources=(), source_peers=("peer2",)),)


def test_a7_drop_rules_are_passed_on_as_drop_permits() -> None:
    drop = replace(WEB, id="no-db", action="drop", ports=("5432",))
    assert permits_of(guarded(policy("q", WEB), policy("s", drop)), "peer1", "r") == (
        a_permit(rule_id="no-db", action="drop", ports=(PortRange(5432, 5432),)),
        a_permit(),
    )


def test_a1_editing_the_policy_reaches_a_routing_peer_that_the_policy_does_not_name() -> None:
    before = guarded(policy("q", WEB))
    after = changed(before, policy("q", replace(WEB, ports=("443",))))
    assert permits_of(after, "peer1", "r") == (a_permit(ports=(PortRange(443, 443),)),)


ANSWER = (ResolvedName("db.example", (ResolvedAddress("10.9.0.1", 5.0, 0.0),)),)


def named(**fields: object) -> Route:
    plain = builders.route("r", domains=("db.example", "web.example"), peer="peer1", groups=("dev",))
    return replace(plain, **fields)


def test_the_addresses_of_a_domain_route_are_read_by_whoever_reads_the_route() -> None:
    there = guarded(served=named())
    document = ResolutionDoc(route_id="r", names=ANSWER)
    held = [read(there, name, {"r": ANSWER}).get(("resolution", "r")) for name in ("peer1", "peer2", "peer3")]
    assert held == [document, document, None]


@pytest.mark.parametrize(
    ("source", "told"), [("10.0.0.53", ""), ("tls://9.9.9.9#dns", ""), ("peer:peer1", "peer:peer1")]
)
def test_c3_which_server_was_asked_is_told_to_no_host(source: str, told: str) -> None:
    there, name = guarded(served=named()), ANSWER[0]
    seen = read(there, "peer2", {"r": (replace(name, source=source),)}).get(("resolution", "r"))
    assert seen == ResolutionDoc(route_id="r", names=(replace(name, source=told),))


@pytest.mark.parametrize(
    "served, found",
    [
        (named(enabled=False), {"r": ANSWER}),
        (named(domains=("web.example",)), {"r": ANSWER}),
        (named(), {"r": ()}),
        (named(), {}),
        (named(), {"gone": ANSWER}),
        (replace(named(), domains=(), network="10.0.0.0/24"), {"r": ANSWER}),
    ],
)
def test_addresses_of_names_the_route_does_not_have_are_not_shown(
    served: Route, found: dict[str, tuple[ResolvedName, ...]]
) -> None:
    written = documents(guarded(served=served), Observed(found))
    assert [key for key in written if key.kind == "resolution"] == []


def test_all_as_distribution_and_as_routing_group_means_every_peer() -> None:
    there = state(*hosts("", "", ""), DEFAULT, route("r", peer_groups=(ALL,), groups=(ALL,)))
    assert [routers(there, f"peer{n}") for n in (1, 2, 3)] == [{"r": (f"peer{n}",)} for n in (1, 2, 3)]

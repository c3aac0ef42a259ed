"""What is written to FEED so that it becomes what it should be."""

from msgspec.structs import replace

from services.management.core.feed.published import Published
from services.management.core.feed.unit import Unit
from shared.events.documents import (
    Document,
    PeerDoc,
    ResolutionDoc,
    RouteDoc,
    RuleDoc,
    SelfDoc,
    SettingsDoc,
    Tombstone,
)
from shared.events.subjects import FeedKey

PEER = PeerDoc(
    peer_id="x",
    name="x",
    fqdn="x.test",
    wireguard_key="key",
    address_v4="100.64.0.1",
    address_v6="",
    groups=(),
    version="1.0.0",
)
SELF = SelfDoc(
    peer_id="x",
    name="x",
    fqdn="x.test",
    wireguard_key="key",
    address_v4="100.64.0.1",
    address_v6="",
    groups=(),
    audiences=("p.x",),
)
SETTINGS = SettingsDoc(
    overlay_v4="", overlay_v6="", dns_domain="", forwarder_port=22054, routing_peer_dns_resolution=True
)
RULE = RuleDoc(
    rule_id="x",
    policy_id="q",
    action="accept",
    protocol="all",
    bidirectional=False,
    ports=(),
    sources=(),
    source_peers=(),
    destinations=(),
    destination_peers=(),
)
ROUTE = RouteDoc(
    route_id="x",
    network_id="x",
    network="10.0.0.0/8",
    domains=(),
    metric=1,
    masquerade=False,
    keep_route=False,
    skip_auto_apply=False,
    routing_peers=("r",),
    distribution=("a",),
    permits=None,
)
FOR_ROUTER = replace(ROUTE, permits=())
RESOLUTION = ResolutionDoc(route_id="x", names=())
UNIT = Unit("peer", "x")


def key(audience: str, kind: str = "peer", account: str = "acc") -> FeedKey:
    return FeedKey(account, audience, kind, "x")


def test_what_stands_there_already_is_not_written_again() -> None:
    published = Published({key("g.a"): PEER})
    assert published.update("acc", {UNIT: {key("g.a"): PEER}}) == []


def test_a_changed_document_is_written_and_a_missing_one_withdrawn() -> None:
    published = Published({key("g.a"): PEER, key("g.b"): PEER})
    renamed = replace(PEER, name="y")
    assert published.update("acc", {UNIT: {key("g.a"): renamed}}) == [
        (key("g.a"), renamed),
        (key("g.b"), Tombstone()),
    ]
    assert published.update("acc", {UNIT: {key("g.a"): renamed}}) == []


def test_a_unit_without_documents_is_withdrawn_and_forgotten() -> None:
    published = Published({key("g.a"): PEER})
    assert published.update("acc", {UNIT: {}}) == [(key("g.a"), Tombstone())]
    assert list(published.units()) == [("acc", set())]


def test_units_that_are_not_mentioned_stay() -> None:
    published = Published({key("g.a"): PEER, key("g.b", "rule"): RULE})
    assert published.update("acc", {UNIT: {}}) == [(key("g.a"), Tombstone())]
    assert list(published.units()) == [("acc", {Unit("policy", "q")})]


def test_what_is_unreadable_is_written_anew_or_withdrawn() -> None:
    published = Published({key("g.a"): None, key("g.b"): None, key("g.c", account="other"): None})
    assert published.update("acc", {UNIT: {key("g.a"): PEER}}) == [(key("g.a"), PEER), (key("g.b"), Tombstone())]
    assert published.update("acc", {UNIT: {key("g.a"): PEER}}) == []


def test_a_document_of_a_kind_that_another_version_wrote_is_withdrawn() -> None:
    foreign = FeedKey("a", "g.all", "zone", "z")
    published = Published({foreign: None})
    assert published.update("a", {}) == [(foreign, Tombstone())]
    assert published.update("a", {}) == []


def test_new_documents_come_before_withdrawn_ones_and_a_router_learns_of_a_route_before_its_clients() -> None:
    published = Published({key("g.old", "self"): SELF})
    desired: dict[Unit, dict[FeedKey, Document]] = {
        Unit("resolution", "x"): {key("g.a", "resolution"): RESOLUTION},
        Unit("route", "x"): {key("g.a", "route"): ROUTE, key("p.r", "route"): FOR_ROUTER},
        Unit("policy", "q"): {key("g.a", "rule"): RULE},
        Unit("self", "x"): {key("p.x", "self"): SELF},
        UNIT: {key("g.a"): PEER},
        Unit("settings", "account"): {key("g.a", "settings"): SETTINGS},
    }
    assert [(written.kind, written.audience) for written, _ in published.update("acc", desired)] == [
        ("settings", "g.a"),
        ("self", "p.x"),
        ("peer", "g.a"),
        ("rule", "g.a"),
        ("route", "p.r"),
        ("route", "g.a"),
        ("resolution", "g.a"),
        ("self", "g.old"),
    ]

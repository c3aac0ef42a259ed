"""Which rule answers a name: the longest domain first, then names of routes, zones, nameserver groups, the host."""

from collections.abc import Iterable
from typing import Any

import dns.name
import pytest
from msgspec.structs import replace

from services.agent.core import parsed
from services.agent.core.dns.decide import LOOPS, Ask, Failed, Known, decide
from services.agent.core.dns.names import labels, labels_of, text
from services.agent.core.dns.rules import HostServers, Routed, Rules, Served, Terms, Zoned, used_groups
from services.agent.core.dns.zones import Presence
from services.agent.core.routing.choices import DESELECT_ALL, Selection
from shared.events.documents import DnsRecord, DnsServer, NameserversDoc, PeerDoc, ZoneDoc
from tests.unit.agent.make import documents, key, me, nameservers, peer, route, settings, zone

HOST = (DnsServer("192.0.2.53", 53),)
ME = replace(me(), labels=("me", "web"))


def a(name: str, address: str, ttl_s: int = 60) -> DnsRecord:
    return DnsRecord(name, "AAAA" if ":" in address else "A", address, ttl_s)


def cname(name: str, target: str) -> DnsRecord:
    return DnsRecord(name, "CNAME", target, 60)


def rules(
    *domains: str,
    peers: Iterable[PeerDoc] = (),
    zones: Iterable[ZoneDoc] = (),
    groups: Iterable[NameserversDoc] = (),
    **fields: Any,
) -> Rules:
    """domains: each of a network of its own, named like it."""
    return Rules(
        Terms(
            me=fields.pop("me", ME),
            settings=fields.pop("settings", settings()),
            peers={one.peer_id: parsed.peer(one) for one in peers},
            zones={one.zone_id: one for one in zones},
            nameservers={one.group_id: one for one in groups},
            used=tuple((domain, "", (domain,)) for domain in domains),
            host=HOST,
            **fields,
        )
    )


def who(those: Rules, name: str, kind: str = "A") -> str:
    """Kind and domain of the rule that answers."""
    found = decide(those, labels(name), kind)
    assert not isinstance(found, Failed)
    match found.rule:
        case Routed(domain=domain):
            return f"route {domain}"
        case Zoned(zone_id=zone_id):
            return f"zone {zone_id}"
        case Served(ids=ids):
            return f"nameservers {' '.join(ids)}"
        case HostServers():
            return "host"


@pytest.mark.parametrize(
    ("domain", "name", "has_it"),
    [
        ("db.corp.test", "db.corp.test", True),
        ("db.corp.test", "DB.Corp.Test.", True),
        ("db.corp.test", "a.db.corp.test", False),
        ("db.corp.test", "corp.test", False),
        ("*.b.test", "x.b.test", True),
        ("*.b.test", "x.y.b.test", True),
        ("*.b.test", "b.test", False),
        ("*.b.test", "x.ab.test", False),
        ("*.b.test", "X.B.TEST", True),
    ],
)
def test_r7_a_route_has_its_names_and_a_wildcard_what_is_below(domain: str, name: str, has_it: bool) -> None:
    assert who(rules(domain), name) == (f"route {domain}" if has_it else "host")


EVERYTHING = rules(
    "db.corp.test",
    "*.corp.test",
    "*.apps.corp.test",
    "lan.test",
    zones=[
        zone("office", a("printer.office.test", "10.3.0.1"), domain="office.test"),
        zone("deep", a("nas.deep.corp.test", "10.3.0.2"), domain="deep.corp.test"),
        zone("same", a("own.lan.test", "10.3.0.3"), a("lan.test", "10.3.0.4"), domain="lan.test"),
    ],
    groups=[
        nameservers("corp", "corp.test"),
        nameservers("office", "office.test"),
        nameservers("primary"),
        nameservers("sub", "x.office.test", "y.office.test"),
    ],
)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("db.corp.test", "route db.corp.test"),
        ("a.corp.test", "route *.corp.test"),
        ("a.apps.corp.test", "route *.apps.corp.test"),
        ("apps.corp.test", "route *.corp.test"),
        ("corp.test", "nameservers corp"),
        ("nas.deep.corp.test", "zone deep"),
        ("no.deep.corp.test", "route *.corp.test"),
        ("printer.office.test", "zone office"),
        ("scanner.office.test", "nameservers office"),
        ("a.x.office.test", "nameservers sub"),
        ("y.office.test", "nameservers sub"),
        ("lan.test", "route lan.test"),
        ("own.lan.test", "zone same"),
        ("other.lan.test", "nameservers primary"),
        ("example.org", "nameservers primary"),
        ("me.whimbrel.test", "zone peers"),
        ("nobody.whimbrel.test", "zone peers"),
        (".", "nameservers primary"),
    ],
)
def test_the_longest_domain_answers_and_of_one_length_routes_zones_nameservers(name: str, by: str) -> None:
    assert who(EVERYTHING, name) == by


def test_a_dot_inside_a_label_is_no_border() -> None:
    odd = labels_of(dns.name.from_text(r"a\.corp.test."))
    assert odd == ("a.corp", "test")
    assert isinstance(next(iter(rules("*.corp.test").of(odd))), HostServers)
    assert text(odd) == r"a\.corp.test"


def test_labels_of_any_bytes_find_what_is_above_them() -> None:
    name = labels_of(dns.name.Name([b"\xc3\xa4 \x00", b"Corp", b"test", b""]))
    assert isinstance(next(iter(rules(groups=[nameservers("corp", "corp.test")]).of(name))), Served)


def test_two_networks_with_one_name_are_one_rule_with_both() -> None:
    keys = (("one", "", ("db.test",)), ("two", "", ("db.test", "x.test")))
    found = decide(Rules(Terms(me=ME, settings=settings(), used=keys, host=HOST)), labels("db.test"), "A")
    assert isinstance(found, Ask)
    assert found.rule == Routed(domain="db.test", keys=keys)


def test_groups_with_one_domain_are_asked_at_once() -> None:
    groups = [nameservers("b", "corp.test"), nameservers("a", "corp.test", "else.test")]
    found = decide(rules(groups=groups), labels("x.corp.test"), "A")
    assert isinstance(found, Ask)
    assert isinstance(found.rule, Served)
    assert found.rule.ids == ("a", "b")
    assert len(found.rule.groups) == 2


def test_a_group_with_our_own_address_among_its_servers_is_left_out() -> None:
    own = nameservers("own", nameservers=(DnsServer(ME.address_v4, 53), DnsServer("10.1.0.53", 53)))
    assert who(rules(groups=[own]), "example.org") == "host"


def test_whoever_keeps_its_dns_is_answered_by_its_own_servers_alone() -> None:
    unmanaged = rules("*.corp.test", groups=[nameservers("primary")], settings=settings(unmanaged_dns=("all",)))
    assert not unmanaged.managed
    assert (unmanaged.domains, unmanaged.search, unmanaged.default) == ((), (), False)
    assert who(unmanaged, "a.corp.test") == who(unmanaged, "me.whimbrel.test") == "host"


@pytest.mark.parametrize(
    ("fields", "selection", "used"),
    [
        ({}, Selection(), True),
        ({}, DESELECT_ALL, False),
        ({}, Selection(deselected=frozenset(["corp"])), False),
        ({"distribution": ("others",)}, Selection(), False),
        ({"by": "stranger"}, Selection(), False),
        ({"by": "me"}, Selection(), False),
    ],
)
def test_names_of_routes_are_asked_for_where_this_host_uses_the_route(
    fields: dict[str, Any], selection: Selection, used: bool
) -> None:
    there = documents(routes=[route("corp", domains=("*.corp.test",), **fields)], peers=[peer("gw")])
    keys = used_groups(there.self_doc, there.settings, there.routes.values(), there.peers, selection)
    assert keys == ((("corp", "", ("*.corp.test",)),) if used else ())


def test_without_resolution_by_routing_peers_names_of_routes_are_answered_as_ever() -> None:
    there = documents(routes=[route("corp", domains=("db.test",))], peers=[peer("gw")])
    off = settings(routing_peer_dns_resolution=False)
    assert used_groups(there.self_doc, off, there.routes.values(), there.peers, Selection()) == ()


def test_search_domains_are_the_peers_then_those_of_zones_and_groups_then_the_hosts() -> None:
    found = rules(
        zones=[zone("one", domain="one.test", search=True), zone("two", domain="two.test")],
        groups=[nameservers("g", "three.test", search=True), nameservers("h", "four.test")],
        search=("home.test", "one.test"),
    )
    assert found.search == ("whimbrel.test", "one.test", "three.test", "home.test")


def test_domains_are_what_the_host_shall_ask_us_for() -> None:
    assert rules("*.corp.test", "db.lan.test", groups=[nameservers("g", "three.test"), nameservers("p")]).domains == (
        "corp.test",
        "db.lan.test",
        "three.test",
        "whimbrel.test",
    )


ZONE = zone(
    "z",
    a("www.z.test", "10.3.0.1"),
    a("www.z.test", "10.3.0.2"),
    a("www.z.test", "fd00::1"),
    a("v4.z.test", "10.3.0.3"),
    cname("alias.z.test", "www.z.test"),
    cname("out.z.test", "db.corp.test"),
    cname("lost.z.test", "nothing.z.test"),
    cname("round.z.test", "trip.z.test"),
    cname("trip.z.test", "round.z.test"),
    a("*.apps.z.test", "10.3.0.9"),
    a("one.apps.z.test", "10.3.0.10"),
    a("deep.between.z.test", "10.3.0.11"),
    domain="z.test",
)


@pytest.mark.parametrize(
    ("name", "kind", "contents"),
    [
        ("www.z.test", "A", ["10.3.0.1", "10.3.0.2"]),
        ("WWW.z.test", "AAAA", ["fd00::1"]),
        ("v4.z.test", "AAAA", []),
        ("www.z.test", "TXT", []),
        ("alias.z.test", "A", ["www.z.test", "10.3.0.1", "10.3.0.2"]),
        ("alias.z.test", "AAAA", ["www.z.test", "fd00::1"]),
        ("alias.z.test", "CNAME", ["www.z.test"]),
        ("alias.z.test", "TXT", ["www.z.test"]),
        ("two.apps.z.test", "A", ["10.3.0.9"]),
        ("a.b.apps.z.test", "A", ["10.3.0.9"]),
        ("one.apps.z.test", "A", ["10.3.0.10"]),
        ("two.apps.z.test", "AAAA", []),
    ],
)
def test_a_zone_answers_with_its_records_or_says_that_there_are_none(name: str, kind: str, contents: list[str]) -> None:
    found = decide(rules(zones=[ZONE]), labels(name), kind)
    assert isinstance(found, Known)
    assert found.exists
    assert [record.content for record in found.records] == contents


def test_a_wildcards_record_has_the_name_that_was_asked_for() -> None:
    found = decide(rules(zones=[ZONE]), labels("two.apps.z.test"), "A")
    assert isinstance(found, Known)
    assert [record.name for record in found.records] == ["two.apps.z.test"]


@pytest.mark.parametrize("name", ["nothing.z.test", "z.test", "between.z.test", "x.one.apps.z.test"])
def test_what_a_zone_does_not_have_others_are_asked_for(name: str) -> None:
    found = decide(rules(zones=[ZONE]), labels(name), "A")
    assert isinstance(found, Ask)
    assert found.name == labels(name)
    assert [one.why for one in found.passed] == [f"the zone has no name {name}"]


@pytest.mark.parametrize(
    ("name", "leads_to", "by"),
    [("out.z.test", "db.corp.test", "route *.corp.test"), ("lost.z.test", "nothing.z.test", "host")],
)
def test_a_cname_that_leads_out_of_the_zone_is_followed_by_the_rules(name: str, leads_to: str, by: str) -> None:
    those = rules("*.corp.test", zones=[ZONE])
    found = decide(those, labels(name), "A")
    assert isinstance(found, Ask)
    assert (found.name, [one.content for one in found.records]) == (labels(leads_to), [leads_to])
    assert who(those, name) == by


def test_cnames_that_lead_in_a_circle_end_the_question() -> None:
    found = decide(rules(zones=[ZONE]), labels("round.z.test"), "A")
    assert isinstance(found, Failed)
    assert found.why == LOOPS


@pytest.mark.parametrize(("length", "answered"), [(8, True), (9, False)])
def test_eight_cnames_are_followed(length: int, answered: bool) -> None:
    chain = [cname(f"n{number}.z.test", f"n{number + 1}.z.test") for number in range(length)]
    long = zone("z", *chain, a(f"n{length}.z.test", "10.3.0.1"), domain="z.test")
    assert isinstance(decide(rules(zones=[long]), labels("n0.z.test"), "A"), Known if answered else Failed)


def test_records_of_a_name_take_turns() -> None:
    those = rules(zones=[ZONE])
    firsts = [decide(those, labels("www.z.test"), "A", Presence(turn=turn)) for turn in range(3)]
    assert [one.records[0].content for one in firsts if isinstance(one, Known)] == ["10.3.0.1", "10.3.0.2", "10.3.0.1"]


PEERS = [
    peer("anna", number=10, labels=("anna", "web")),
    peer("bert", number=11, labels=("bert", "web"), v6=""),
]


@pytest.mark.parametrize(
    ("name", "kind", "connected", "contents"),
    [
        ("anna.whimbrel.test", "A", (), ["100.64.0.10"]),
        ("anna.whimbrel.test", "AAAA", (), ["fd00:64::a"]),
        ("bert.whimbrel.test", "AAAA", (), []),
        ("me.whimbrel.test", "A", (), ["100.64.0.1"]),
        ("web.whimbrel.test", "A", (), ["100.64.0.1"]),
        ("web.whimbrel.test", "A", ("bert",), ["100.64.0.1", "100.64.0.11"]),
        ("web.whimbrel.test", "A", ("anna", "bert"), ["100.64.0.1", "100.64.0.10", "100.64.0.11"]),
        ("whimbrel.test", "A", (), []),
        ("anna.whimbrel.test", "TXT", (), []),
    ],
)
def test_labels_of_peers_and_of_this_host_are_names_in_the_accounts_domain(
    name: str, kind: str, connected: tuple[str, ...], contents: list[str]
) -> None:
    found = decide(rules(peers=PEERS), labels(name), kind, Presence(connected=set(map(key, connected))))
    assert isinstance(found, Known)
    assert found.exists
    assert [record.content for record in found.records] == contents


def test_of_several_peers_with_a_label_all_are_told_when_none_is_there() -> None:
    found = decide(rules(peers=PEERS, me=me()), labels("web.whimbrel.test"), "A")
    assert isinstance(found, Known)
    assert [record.content for record in found.records] == ["100.64.0.10", "100.64.0.11"]


def test_a_host_without_ipv6_in_the_overlay_is_told_no_address_of_it() -> None:
    found = decide(rules(peers=PEERS), labels("anna.whimbrel.test"), "AAAA", Presence(ipv6=False))
    assert isinstance(found, Known)
    assert found.records == ()


def test_a_name_that_no_peer_has_does_not_exist_and_nobody_else_is_asked() -> None:
    found = decide(rules(groups=[nameservers("primary")]), labels("nobody.whimbrel.test"), "A")
    assert isinstance(found, Known)
    assert not found.exists


def test_a_zone_with_the_accounts_own_domain_adds_to_the_peers() -> None:
    those = rules(peers=PEERS, zones=[zone("own", a("x.whimbrel.test", "10.3.0.7"), domain="whimbrel.test")])
    assert who(those, "x.whimbrel.test") == "zone own"
    assert who(those, "anna.whimbrel.test") == "zone peers"

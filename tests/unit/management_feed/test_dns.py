"""What the feed says of DNS (reference control-plane §1.10, §3.8)."""

import pytest
from msgspec.structs import replace

from services.management.core.entities import Entity
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.unit import Unit
from services.management.core.model.nameservers import Nameserver
from services.management.core.state import AccountState
from shared.events.documents import DnsRecord, DnsServer, NameserversDoc, PeerDoc, SelfDoc, SettingsDoc, ZoneDoc
from tests import builders
from tests.builders import commit, dns_settings, group, intent, nameserver_group, peer, policy, zone, zone_record
from tests.unit.management_feed.reading import affected, changed, read

BASE = (
    group("office"),
    group("lab"),
    policy("mesh"),
    peer("laptop", "office", extra_dns_labels=("sql", "pg")),
    peer("gw", "lab"),
    peer("other"),
)
CORP = nameserver_group(
    "corp",
    "corp.example",
    "xn--bcher-kva.example",
    groups=("office", "lab"),
    search_domains_enabled=True,
    nameservers=(
        Nameserver(ip="10.0.0.53", ns_type="udp", port=53),
        Nameserver(ip="fd00::53", ns_type="udp", port=5300),
    ),
)
LAN = zone("lan.example", distribution_groups=("office",))
RECORDS = (
    zone_record("lan.example", "www.lan.example"),
    zone_record("lan.example", "files.lan.example", "www.lan.example", type="CNAME", ttl=0),
)


def account(*more: Entity) -> AccountState:
    return builders.state(*BASE, *more)


def kinds(state: AccountState, peer_id: str) -> set[str]:
    return {kind for kind, _ in read(state, peer_id)}


def test_a_nameserver_group_reaches_the_groups_it_is_distributed_to() -> None:
    state = account(CORP)
    expected = NameserversDoc(
        group_id="corp",
        nameservers=(DnsServer("10.0.0.53", 53), DnsServer("fd00::53", 5300)),
        domains=("corp.example", "xn--bcher-kva.example"),
        search=True,
    )
    assert read(state, "laptop")["nameservers", "corp"] == read(state, "gw")["nameservers", "corp"] == expected
    assert "nameservers" not in kinds(state, "other")


def test_a_primary_group_names_no_domains() -> None:
    document = read(account(nameserver_group("all")), "other")["nameservers", "all"]
    assert isinstance(document, NameserversDoc)
    assert (document.domains, document.search) == ((), False)


def test_a_nameserver_group_that_is_disabled_reaches_nobody() -> None:
    assert "nameservers" not in kinds(account(replace(CORP, enabled=False)), "laptop")


def test_a_zone_reaches_the_groups_it_is_distributed_to_with_its_records_sorted() -> None:
    state = account(LAN, *RECORDS)
    assert read(state, "laptop")["zone", "lan.example"] == ZoneDoc(
        zone_id="lan.example",
        domain="lan.example",
        records=(
            DnsRecord("files.lan.example", "CNAME", "www.lan.example", 0),
            DnsRecord("www.lan.example", "A", "10.0.0.80", 300),
        ),
    )
    assert "zone" not in kinds(state, "gw")


@pytest.mark.parametrize("entities", [(LAN,), (replace(LAN, enabled=False), *RECORDS), RECORDS])
def test_a_zone_that_is_disabled_or_empty_or_gone_reaches_nobody(entities: tuple[Entity, ...]) -> None:
    assert "zone" not in kinds(account(*entities), "laptop")


@pytest.mark.parametrize(
    "entity",
    [CORP, nameserver_group("all"), LAN, *RECORDS, dns_settings("office")],
    ids=lambda entity: entity.title,
)
def test_what_is_said_of_dns_touches_one_unit_however_many_hosts_there_are(entity: Entity) -> None:
    for hosts in (10, 500):
        there = intent(*BASE, LAN, *(peer(f"h{n}", "office") for n in range(hosts)))
        index = FeedIndex(there.accounts[builders.ACCOUNT])
        assert len(index.touched(there.apply(2, commit(entity)))) == 1


def test_a_record_that_moves_to_another_zone_touches_both() -> None:
    there = intent(*BASE, LAN, zone("b.example"), *RECORDS)
    index = FeedIndex(there.accounts[builders.ACCOUNT])
    moved = replace(RECORDS[0], zone="b.example")
    assert index.touched(there.apply(2, commit(moved))) == {Unit("zone", "lan.example"), Unit("zone", "b.example")}


def test_groups_without_dns_management_are_in_the_settings_of_everybody() -> None:
    for peer_id in ("laptop", "gw", "other"):
        settings = read(account(dns_settings("office", "lab")), peer_id)["settings", "account"]
        assert isinstance(settings, SettingsDoc)
        assert settings.unmanaged_dns == ("lab", "office")


def test_a_peer_is_known_by_its_label_and_its_extra_ones() -> None:
    state = account()
    shown, own = read(state, "other")["peer", "laptop"], read(state, "laptop")["self", "laptop"]
    assert isinstance(shown, PeerDoc)
    assert isinstance(own, SelfDoc)
    assert shown.labels == own.labels == ("laptop", "sql", "pg")


def test_a_new_domain_renames_every_peer_with_the_settings_document() -> None:
    before = account()
    after = changed(before, replace(before.account, dns_domain="new.test"))
    assert affected(before, after) == {"laptop", "gw", "other"}
    assert read(after, "gw")["settings", "account"] == replace(
        read(before, "gw")["settings", "account"],
        dns_domain="new.test",
    )
    shown = read(after, "gw")["peer", "laptop"]
    assert isinstance(shown, PeerDoc)
    assert (shown.labels, shown.fqdn) == (("laptop", "sql", "pg"), "laptop.new.test")

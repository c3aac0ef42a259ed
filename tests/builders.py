"""Small values for tests. Whatever a test does not speak of has a plain default; ids are the names.

there = state(group("office"), peer("alice", "office"), route("lan", peer="alice", groups=("office",)))
"""

import base64
import binascii
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from services.management.core.commands.decision import Context
from services.management.core.entities import Entity, Ref
from services.management.core.model.account import ALL_GROUP_NAME, Account
from services.management.core.model.commit import Activity, Actor, Commit
from services.management.core.model.dnssettings import DNS_SETTINGS_ID, DnsSettings
from services.management.core.model.group import Group
from services.management.core.model.nameservers import Nameserver, NameserverGroup
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.model.route import Route
from services.management.core.model.setupkey import SetupKey
from services.management.core.model.user import User
from services.management.core.model.zone import Zone, ZoneRecord
from services.management.core.state import AccountState, Intent
from shared.events.signals import EnrolRequest, PeerMeta
from shared.events.subjects import setup_key_hash

ACCOUNT = "acc"
ALL = "all"
NOW = 1_700_000_000.0
DNS_DOMAIN = "whimbrel.test"
ALICE = Actor(id="alice-user", name="Alice", email="alice@example.com")


def account(id: str = ACCOUNT, *, network_v4: str = "100.64.0.0/16", network_v6: str = "fd00:64::/64") -> Account:
    return Account(
        id=id, network_v4=network_v4, network_v6=network_v6, dns_domain=DNS_DOMAIN, all_group=ALL, created_at=NOW
    )


def group_all() -> Group:
    return Group(id=ALL, name=ALL_GROUP_NAME)


def group(name: str, *, id: str = "") -> Group:
    return Group(id=id or name, name=name)


def wireguard_key(name: str) -> str:
    """Looks like a public key, always the same one for a name."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def bus_key(name: str) -> str:
    """Looks like a public user nkey (prefix, 32 bytes, checksum), always the same one for a name."""
    body = bytes([20 << 3]) + hashlib.sha256(name.encode()).digest()
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode()


def peer(name: str, *groups: str, **fields: Any) -> Peer:
    """A Linux peer, member of `groups` and of All; its addresses follow from the name."""
    host = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big") % 65_534 + 1
    plain = Peer(
        id=name,
        name=name,
        dns_label=name.lower(),
        wireguard_key=wireguard_key(name),
        bus_key=bus_key(name),
        address_v4=f"100.64.{host // 256}.{host % 256}",
        address_v6=f"fd00:64::{host:x}",
        groups=tuple(sorted(groups)),
        meta=meta(name),
        created_at=NOW,
        last_login=NOW,
    )
    return replace(plain, **fields)


def meta(hostname: str = "", *, go_os: str = "linux", ipv6: bool = True) -> PeerMeta:
    return PeerMeta(hostname=hostname, os="Debian", go_os=go_os, kernel="Linux", version="1.0.0", ipv6=ipv6)


def rule(id: str = "rule", **fields: Any) -> PolicyRule:
    """An enabled rule that accepts everything, from All to All unless said otherwise."""
    return replace(PolicyRule(id=id, name=id, sources=(ALL,), destinations=(ALL,)), **fields)


def policy(name: str, *rules: PolicyRule, **fields: Any) -> Policy:
    """An enabled policy; without rules given, the one rule that lets All talk to All both ways."""
    return replace(Policy(id=name, name=name, rules=rules or (rule(f"{name}-rule", bidirectional=True),)), **fields)


def route(name: str, network: str = "10.0.0.0/24", **fields: Any) -> Route:
    """An enabled route to a prefix, distributed to All; with `domains` given, to those instead."""
    plain = Route(
        id=name,
        network_id=name,
        network="" if fields.get("domains") else network,
        network_type="Domain" if fields.get("domains") else "IPv6" if ":" in network else "IPv4",
        enabled=True,
        groups=(ALL,),
    )
    return replace(plain, **fields)


def nameserver_group(name: str, *domains: str, **fields: Any) -> NameserverGroup:
    """An enabled group of one nameserver for the domains, or primary without any, distributed to All."""
    plain = NameserverGroup(
        id=name,
        name=name,
        nameservers=(Nameserver(ip="10.0.0.53", ns_type="udp", port=53),),
        enabled=True,
        groups=(ALL,),
        primary=not domains,
        domains=domains,
    )
    return replace(plain, **fields)


def dns_settings(*disabled_management_groups: str) -> DnsSettings:
    return DnsSettings(id=DNS_SETTINGS_ID, disabled_management_groups=disabled_management_groups)


def zone(domain: str, **fields: Any) -> Zone:
    """An enabled zone, called as its domain, distributed to All."""
    return replace(Zone(id=domain, name=domain, domain=domain, distribution_groups=(ALL,)), **fields)


def zone_record(zone: str, name: str, content: str = "10.0.0.80", **fields: Any) -> ZoneRecord:
    """An A record, whose id is its name."""
    return replace(ZoneRecord(id=name, zone=zone, name=name, type="A", content=content, ttl=300), **fields)


def setup_key(name: str, key: str = "", **fields: Any) -> SetupKey:
    """A reusable key without limits; its clear text is `key`, or the name."""
    text = key or name
    plain = SetupKey(
        id=name,
        name=name,
        key_hash=setup_key_hash(text),
        hint=text[:5],
        type="reusable",
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(plain, **fields)


def user(name: str, *auto_groups: str) -> User:
    return User(id=name, name=name, role="admin", auto_groups=auto_groups, created_at=NOW)


def enrol_request(
    name: str, *, hostname: str | None = None, labels: Sequence[str] = (), ipv6: bool = True
) -> EnrolRequest:
    """What a host called `name` asks with; its keys follow from the name."""
    return EnrolRequest(
        wireguard_key=wireguard_key(name),
        bus_key=bus_key(name),
        meta=meta(name if hostname is None else hostname, ipv6=ipv6),
        extra_dns_labels=tuple(labels),
    )


def commit(*upserts: Entity, deletes: Sequence[Ref] = (), account: str = ACCOUNT) -> Commit:
    return Commit(
        account=account,
        at=NOW,
        actor=ALICE,
        activities=(Activity(code="test", target_id=account),),
        upserts=upserts,
        deletes=tuple(deletes),
    )


def intent(*entities: Entity, account: Account | None = None) -> Intent:
    """One account (`account`, or one called ACCOUNT) with group All and `entities`, at LOG sequence 1."""
    owner = account or _ACCOUNT
    folded = Intent()
    folded.apply(1, commit(owner, group_all(), *entities, account=owner.id))
    return folded


def state(*entities: Entity) -> AccountState:
    """The account of `intent` alone."""
    return intent(*entities).accounts[ACCOUNT]


def context(now: float = NOW, actor: Actor = ALICE) -> Context:
    """New ids are new-1, new-2, …"""
    numbers = itertools.count(1)
    return Context(now, actor, lambda: f"new-{next(numbers)}")


_ACCOUNT = account()

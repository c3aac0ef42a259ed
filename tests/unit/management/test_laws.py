"""Whatever is accepted, in whatever order, the account stays whole.

A small world of few names, so that requests collide: each step asks one command of whatever exists at that moment,
refusals change nothing, commits are folded in, and after each the invariants are computed anew from the entities.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.management.core.commands import (
    accountsettings,
    dnssettings,
    enrol,
    groups,
    nameservers,
    peers,
    policies,
    routes,
    setupkeys,
    zonerecords,
    zones,
)
from services.management.core.commands.decision import Context, Decision
from services.management.core.commands.policyrules import PolicyRuleRequest
from services.management.core.entities import KINDS
from services.management.core.model.commit import Commit
from services.management.core.model.policy import PolicyRule, ResourceRef
from services.management.core.state import AccountState, Intent
from services.management.errors import Refusal
from shared.events.subjects import setup_key_hash
from shared.net.domains import is_wildcard, is_within
from tests.builders import ACCOUNT, ALICE, ALL, NOW, enrol_request, intent, policy, setup_key

FIRST = (policy("Default"), setup_key("key-1"))
"""What the account begins with, beside All."""

NAMES = ["a", "b", "b.lan", "ü"]
PREFIXES = ["10.0.0.0/8", "10.1.2.3/16", "fd00::/8"]
DOMAINS = [("a.com",), ("a.com", "b.com"), ("b.com", "A.com"), ("*.c.com",)]
ADDRESSES = [None, "100.64.0.1", "100.64.0.2"]
KEYS = ["key-1", "key-2"]


class Chooser:
    """Draws what a step needs, out of what the account has."""

    def __init__(self, data: st.DataObject, there: Intent) -> None:
        self._data = data
        self.there = there
        self.state = there.accounts[ACCOUNT]

    def one(self, choices: Iterable[Any]) -> Any:
        return self._data.draw(st.sampled_from(list(choices)))

    def yes(self) -> bool:
        return self._data.draw(st.booleans())

    def id(self, table: Iterable[str]) -> str:
        """Mostly one that exists."""
        return str(self.one([*sorted(table), "ghost"]))

    def ids(self, table: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._data.draw(st.lists(st.sampled_from(sorted(table) or ["ghost"]), max_size=2)))


Step: TypeAlias = Callable[[Chooser, AccountState, Context], Decision[Any]]


def _group(choose: Chooser) -> groups.GroupRequest:
    return groups.GroupRequest(name=choose.one(NAMES), peers=choose.ids(choose.state.peers))


def _route(choose: Chooser) -> routes.RouteRequest:
    state = choose.state
    where = {"network": choose.one(PREFIXES)} if choose.yes() else {"domains": choose.one(DOMAINS)}
    who = {"peer": choose.id(state.peers)} if choose.yes() else {"peer_groups": choose.ids(state.groups)}
    return routes.RouteRequest(
        network_id="r", metric=1, groups=choose.ids(state.groups) or (ALL,), enabled=choose.yes(), **where, **who
    )


def _policy(choose: Chooser) -> policies.PolicyRequest:
    state = choose.state
    direct = ResourceRef(id=choose.id(state.peers), type="peer") if choose.yes() else None
    rule = PolicyRuleRequest(
        name="r",
        action="accept",
        protocol="all",
        sources=choose.ids(state.groups),
        destinations=None if direct else choose.ids(state.groups),
        destination_resource=direct,
    )
    return policies.PolicyRequest(name=choose.one(NAMES), rules=(rule,) * choose.one([1, 2]))


def _setup_key(choose: Chooser) -> setupkeys.SetupKeyRequest:
    return setupkeys.SetupKeyRequest(
        name="k",
        type=choose.one(["reusable", "reusable", "one-off"]),
        auto_groups=choose.ids(choose.state.groups.keys() - {ALL}),
        ephemeral=choose.yes(),
        allow_extra_dns_labels=True,
    )


def _setup_key_update(choose: Chooser) -> setupkeys.SetupKeyUpdate:
    return setupkeys.SetupKeyUpdate(auto_groups=choose.ids(choose.state.groups.keys() - {ALL}))


def _peer(choose: Chooser) -> peers.PeerRequest:
    return peers.PeerRequest(name=choose.one(NAMES), ip=choose.one(ADDRESSES))


def _nameservers(choose: Chooser) -> nameservers.NameserverGroupRequest:
    server = nameservers.NameserverRequest(ip=choose.one(["10.0.0.53", "fd00::53", ""]), ns_type="udp", port=53)
    primary = choose.yes()
    return nameservers.NameserverGroupRequest(
        name=choose.one(NAMES),
        nameservers=(server,),
        primary=primary,
        domains=() if primary else choose.one(DOMAINS),
        groups=choose.ids(choose.state.groups),
    )


def _account(choose: Chooser) -> accountsettings.AccountRequest:
    settings = accountsettings.AccountSettingsRequest(
        routing_peer_dns_resolution_enabled=choose.one([None, True, False]),
        dns_domain=choose.one([None, "a.com", "whimbrel.test", "y.test"]),
    )
    return accountsettings.AccountRequest(settings=settings)


def _dns_settings(choose: Chooser) -> dnssettings.DnsSettingsRequest:
    return dnssettings.DnsSettingsRequest(disabled_management_groups=choose.ids(choose.state.groups))


def _zone(choose: Chooser) -> zones.ZoneRequest:
    domain = choose.one(["a.com", "x.a.com", "whimbrel.test"])
    return zones.ZoneRequest(name="z", domain=domain, distribution_groups=choose.ids(choose.state.groups))


def _record(choose: Chooser) -> zonerecords.ZoneRecordRequest:
    kind, content = choose.one([("A", "10.0.0.1"), ("AAAA", "fd00::1"), ("CNAME", "b.com")])
    return zonerecords.ZoneRecordRequest(name=choose.one(["a.com", "x.a.com", "w.x.a.com"]), type=kind, content=content)


def _enrol(choose: Chooser, state: AccountState, context: Context) -> Decision[Any]:
    host = choose.one(["h1", "h2", "h3", "h4"])
    request = enrol_request(host, hostname=choose.one(NAMES), labels=choose.one([(), (), ("a",), ("x",)]))
    picks = enrol.AddressPicks(v4=(choose.one(range(3)),), v6=(choose.one(range(3)),))
    return enrol.enrol(choose.there, state, request, setup_key_hash(choose.one(KEYS)), picks, context)


STEPS: list[Step] = [
    _enrol,
    _enrol,
    lambda choose, state, context: setupkeys.create_setup_key(state, _setup_key(choose), choose.one(KEYS), context),
    lambda choose, state, context: setupkeys.update_setup_key(
        state, choose.id(state.setup_keys), _setup_key_update(choose), context
    ),
    lambda choose, state, context: setupkeys.delete_setup_key(state, choose.id(state.setup_keys), context),
    lambda choose, state, context: groups.create_group(state, _group(choose), context),
    lambda choose, state, context: groups.update_group(state, choose.id(state.groups), _group(choose), context),
    lambda choose, state, context: groups.delete_group(state, choose.id(state.groups), context),
    lambda choose, state, context: routes.create_route(state, _route(choose), context),
    lambda choose, state, context: routes.update_route(state, choose.id(state.routes), _route(choose), context),
    lambda choose, state, context: routes.delete_route(state, choose.id(state.routes), context),
    lambda choose, state, context: policies.create_policy(state, _policy(choose), context),
    lambda choose, state, context: policies.update_policy(state, choose.id(state.policies), _policy(choose), context),
    lambda choose, state, context: policies.delete_policy(state, choose.id(state.policies), context),
    lambda choose, state, context: nameservers.create_nameserver_group(state, _nameservers(choose), context),
    lambda choose, state, context: nameservers.update_nameserver_group(
        state, choose.id(state.nameserver_groups), _nameservers(choose), context
    ),
    lambda choose, state, context: nameservers.delete_nameserver_group(
        state, choose.id(state.nameserver_groups), context
    ),
    lambda choose, state, context: dnssettings.update_dns_settings(state, _dns_settings(choose), context),
    lambda choose, state, context: accountsettings.update_account(state, _account(choose), context),
    lambda choose, state, context: zones.create_zone(state, _zone(choose), context),
    lambda choose, state, context: zones.update_zone(state, choose.id(state.zones), _zone(choose), context),
    lambda choose, state, context: zones.delete_zone(state, choose.id(state.zones), context),
    lambda choose, state, context: zonerecords.create_record(state, choose.id(state.zones), _record(choose), context),
    lambda choose, state, context: zonerecords.update_record(
        state, choose.id(state.zones), choose.id(state.zone_records), _record(choose), context
    ),
    lambda choose, state, context: zonerecords.delete_record(
        state, choose.id(state.zones), choose.id(state.zone_records), context
    ),
    lambda choose, state, context: peers.update_peer(state, choose.id(state.peers), _peer(choose), context),
    lambda choose, state, context: peers.delete_peer(state, choose.id(state.peers), context),
]


def play(data: st.DataObject, check: Callable[[Intent], None]) -> list[Commit]:
    """The commits of a history that begins as every account does; `check` looks after each."""
    there = intent(*FIRST)
    choose = Chooser(data, there)
    commits = []
    numbers = iter(range(1, 10_000))
    for _ in range(data.draw(st.integers(15, 40))):
        step: Step = choose.one(STEPS)
        context = Context(NOW, ALICE, lambda: f"new-{next(numbers)}")
        try:
            decision = step(choose, choose.state, context)
        except Refusal:
            continue
        if decision.commit is not None:
            commits.append(decision.commit)
            there.apply(there.sequence + 1, decision.commit)
            check(there)
    return commits


def rules(state: AccountState) -> list[PolicyRule]:
    return [rule for entry in state.policies.values() for rule in entry.rules]


@given(st.data())
@settings(max_examples=200)
def test_r10_nothing_ever_refers_to_what_does_not_exist(data: st.DataObject) -> None:
    def check(there: Intent) -> None:
        state = there.accounts[ACCOUNT]
        for kind in KINDS:
            for other, named_by in kind.references().items():
                named = {id for entity in state.table(kind).values() for id in named_by(entity)}
                assert named - {""} <= state.table(other).keys()
        peers_domain = state.account.dns_domain
        for zone in state.zones.values():
            assert not is_within(zone.domain, peers_domain)
            assert not is_within(peers_domain, zone.domain)
        for route in state.routes.values():
            resolved = state.account.settings.routing_peer_dns_resolution_enabled
            assert resolved or not any(map(is_wildcard, route.domains))
            assert {*route.groups, *route.peer_groups, *route.access_control_groups} <= state.groups.keys()
            assert not route.peer or route.peer in state.peers
            assert route.groups
        for rule in rules(state):
            assert {*rule.sources, *rule.destinations} <= state.groups.keys()
            assert rule.destination_resource is None or rule.destination_resource.id in state.peers
        for key in state.setup_keys.values():
            assert set(key.auto_groups) <= state.groups.keys() - {ALL}
        assert {record.zone for record in state.zone_records.values()} <= state.zones.keys()
        for peer in state.peers.values():
            assert set(peer.groups) <= state.groups.keys() - {ALL}
            assert peer.setup_key in state.setup_keys

    play(data, check)


@given(st.data())
@settings(max_examples=200)
def test_addresses_labels_names_and_keys_are_unique(data: st.DataObject) -> None:
    def check(there: Intent) -> None:
        state = there.accounts[ACCOUNT]
        peers = state.peers.values()
        for values in (
            [peer.address_v4 for peer in peers],
            [peer.address_v6 for peer in peers],
            [peer.dns_label for peer in peers],
            [peer.wireguard_key for peer in peers],
            [peer.bus_key for peer in peers],
            [group.name for group in state.groups.values()],
            [rule.id for rule in rules(state)],
            [zone.domain for zone in state.zones.values()],
            [group.name for group in state.nameserver_groups.values()],
            [(record.name, record.type, record.content) for record in state.zone_records.values()],
        ):
            assert len(values) == len(set(values))
        for peer in peers:
            extra = {label for other in peers if other.id != peer.id for label in other.extra_dns_labels}
            assert peer.dns_label not in extra

    play(data, check)


@given(st.data())
@settings(max_examples=200)
def test_the_indexes_equal_what_the_entities_say(data: st.DataObject) -> None:
    def check(there: Intent) -> None:
        state = there.accounts[ACCOUNT]
        for group in state.groups:
            listed = {peer.id for peer in state.peers.values() if group in peer.groups or group == ALL}
            assert set(state.members(group)) == listed
            assert state.member_count(group) == len(listed)
        for zone in state.zones:
            records = sorted(record.id for record in state.zone_records.values() if record.zone == zone)
            assert [record.id for record in state.records_of(zone)] == records
        for peer in state.peers.values():
            assert state.address_taken(peer.address_v4)
            assert peer.id in state.label_holders(peer.dns_label)
            owner = there.peer_by_bus_key(peer.bus_key)
            assert owner is not None
            assert owner.id == peer.id
            assert peer.groups == tuple(sorted(peer.groups))
        assert state.groups[ALL].name == "All"

    play(data, check)


@given(st.data())
@settings(max_examples=50)
def test_the_log_read_back_folds_to_the_same_account(data: st.DataObject) -> None:
    live: list[Intent] = []
    commits = play(data, live.append)
    replayed = intent(*FIRST)
    for sequence, commit in enumerate(commits, start=2):
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(commit), type=Commit)
        assert commit.activities
        replayed.apply(sequence, read)
    if live:
        assert list(replayed.accounts[ACCOUNT].entities()) == list(live[-1].accounts[ACCOUNT].entities())

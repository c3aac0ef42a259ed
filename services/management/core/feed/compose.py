"""The feed of an account as a function of its state: every document, or those of one unit.

A unit is the smallest part of the feed that is computed at once; each document belongs to exactly one. The running
projector recomputes the units that a commit touched (incremental.py) and gets what `documents` would give.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec

from services.management.core.feed.forwarder import forwarder_port, knows_forwarder_port
from services.management.core.feed.offers import resolution_documents, route_documents
from services.management.core.feed.permits import port_ranges
from services.management.core.feed.visibility import (
    audiences_of,
    destination_audiences,
    destination_peers,
    groups_named_by_policy,
    groups_named_by_route,
    rules_in_force,
    sights,
    source_audiences,
    source_peers,
)
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.state import AccountState
from shared.events.documents import (
    KINDS,
    SETTINGS_ID,
    Document,
    PeerDoc,
    ResolvedName,
    RuleDoc,
    SelfDoc,
    SettingsDoc,
)
from shared.events.subjects import FeedKey, group_audience, peer_audience

UnitKind: TypeAlias = Literal["settings", "self", "peer", "policy", "route", "resolution"]
Documents: TypeAlias = dict[FeedKey, Document]
Resolutions: TypeAlias = Mapping[str, tuple[ResolvedName, ...]]
"""Route id → what the resolver found for its names. A route without an entry has no resolution document."""


class Unit(msgspec.Struct, frozen=True, gc=False):
    """id: of the peer, policy or route; SETTINGS_ID for the settings."""

    kind: UnitKind
    id: str


SETTINGS = Unit("settings", SETTINGS_ID)


class Relations(Protocol):
    """What follows from the whole account, and would be expensive to find out anew for each document."""

    def viewers(self, audience: str) -> Iterable[str]:
        """Audiences that see the members of `audience`."""

    def is_named(self, group_id: str) -> bool:
        """Whether any policy rule or route of the account names the group."""

    def rules_to(self, group_id: str) -> Iterable[PolicyRule]:
        """Rules in force that have the group among their destinations."""

    def forwarder_port(self) -> int: ...


class RelationsOf:
    """The relations of one state, found by looking at all of it."""

    def __init__(self, state: AccountState) -> None:
        self._state = state
        self._viewers: dict[str, set[str]] = defaultdict(set)
        self._rules_to: dict[str, list[PolicyRule]] = defaultdict(list)
        self._named: set[str] = set()
        for policy in state.policies.values():
            self._named |= groups_named_by_policy(policy)
            for sight in sights(policy):
                self._viewers[sight.seen].add(sight.viewer)
            for rule in rules_in_force(policy):
                for group in set(rule.destinations):
                    self._rules_to[group].append(rule)
        for route in state.routes.values():
            self._named |= groups_named_by_route(route)

    def viewers(self, audience: str) -> Iterable[str]:
        return self._viewers.get(audience, ())

    def is_named(self, group_id: str) -> bool:
        return group_id in self._named

    def rules_to(self, group_id: str) -> Iterable[PolicyRule]:
        return self._rules_to.get(group_id, ())

    def forwarder_port(self) -> int:
        peers = self._state.peers.values()
        return forwarder_port(len(peers), sum(knows_forwarder_port(peer.meta.version) for peer in peers))


def documents(state: AccountState, resolutions: Resolutions) -> Documents:
    """Every document of the account's feed."""
    relations = RelationsOf(state)
    return {
        key: document
        for unit in units(state)
        for key, document in unit_documents(state, resolutions, relations, unit).items()
    }


def units(state: AccountState) -> Iterator[Unit]:
    """Every unit the account has, each once; some have no documents."""
    yield SETTINGS
    for peer_id in state.peers:
        yield Unit("self", peer_id)
        yield Unit("peer", peer_id)
    for policy_id in state.policies:
        yield Unit("policy", policy_id)
    for route_id in state.routes:
        yield Unit("route", route_id)
        yield Unit("resolution", route_id)


def unit_of(key: FeedKey, document: Document) -> Unit:
    """The unit a published document belongs to."""
    match document:
        case SettingsDoc():
            return SETTINGS
        case SelfDoc():
            return Unit("self", key.id)
        case PeerDoc():
            return Unit("peer", key.id)
        case RuleDoc():
            return Unit("policy", document.policy_id)
    return Unit("resolution" if key.kind == "resolution" else "route", key.id)


def unit_documents(state: AccountState, resolutions: Resolutions, relations: Relations, unit: Unit) -> Documents:
    """The documents of one unit; {} for one that the account does not have (any more)."""
    match unit.kind:
        case "settings":
            found = _settings(state, relations)
        case "self":
            found = _self(state, unit.id)
        case "peer":
            found = _peer(state, relations, unit.id)
        case "policy":
            found = _policy(state, unit.id)
        case "route":
            found = _route(state, relations, unit.id)
        case "resolution":
            found = _resolution(state, resolutions, unit.id)
    account = state.account.id
    return {FeedKey(account, audience, KINDS[type(document)], id): document for audience, id, document in found}


_Found: TypeAlias = Iterator[tuple[str, str, Document]]
"""Audience, id and document."""


def _settings(state: AccountState, relations: Relations) -> _Found:
    account = state.account
    yield (
        group_audience(account.all_group),
        SETTINGS_ID,
        SettingsDoc(
            overlay_v4=account.network_v4,
            overlay_v6=account.network_v6,
            dns_domain=account.dns_domain,
            forwarder_port=relations.forwarder_port(),
            routing_peer_dns_resolution=account.settings.routing_peer_dns_resolution_enabled,
        ),
    )


def _self(state: AccountState, peer_id: str) -> _Found:
    peer = state.peers.get(peer_id)
    if peer is None:
        return
    groups = state.groups_of(peer)
    document = SelfDoc(
        peer_id=peer.id,
        name=peer.name,
        fqdn=peer.fqdn(state.account.dns_domain),
        wireguard_key=peer.wireguard_key,
        address_v4=peer.address_v4,
        address_v6=peer.address_v6,
        groups=groups,
        audiences=audiences_of(peer.id, groups),
    )
    yield peer_audience(peer.id), peer.id, document


def _peer(state: AccountState, relations: Relations, peer_id: str) -> _Found:
    peer = state.peers.get(peer_id)
    if peer is None:
        return
    groups = state.groups_of(peer)
    document = PeerDoc(
        peer_id=peer.id,
        name=peer.name,
        fqdn=peer.fqdn(state.account.dns_domain),
        wireguard_key=peer.wireguard_key,
        address_v4=peer.address_v4,
        address_v6=peer.address_v6,
        groups=tuple(group for group in groups if relations.is_named(group)),
        version=peer.meta.version,
    )
    for viewer in {v for audience in audiences_of(peer.id, groups) for v in relations.viewers(audience)}:
        yield viewer, peer.id, document


def _policy(state: AccountState, policy_id: str) -> _Found:
    policy = state.policies.get(policy_id)
    if policy is None:
        return
    for rule in rules_in_force(policy):
        document = _rule_document(policy, rule)
        for audience in source_audiences(rule) | destination_audiences(rule):
            yield audience, rule.id, document


def _rule_document(policy: Policy, rule: PolicyRule) -> RuleDoc:
    return RuleDoc(
        rule_id=rule.id,
        policy_id=policy.id,
        action=rule.action,
        protocol=rule.protocol,
        bidirectional=rule.bidirectional,
        ports=port_ranges(rule),
        sources=tuple(sorted(set(rule.sources))),
        source_peers=source_peers(rule),
        destinations=tuple(sorted(set(rule.destinations))),
        destination_peers=destination_peers(rule),
    )


def _route(state: AccountState, relations: Relations, route_id: str) -> _Found:
    route = state.routes.get(route_id)
    if route is None:
        return
    rules = (rule for group in route.access_control_groups for rule in relations.rules_to(group))
    for audience, document in route_documents(state, route, rules).items():
        yield audience, route_id, document


def _resolution(state: AccountState, resolutions: Resolutions, route_id: str) -> _Found:
    route = state.routes.get(route_id)
    names = resolutions.get(route_id)
    if route is None or names is None:
        return
    for audience, document in resolution_documents(state, route, names).items():
        yield audience, route_id, document

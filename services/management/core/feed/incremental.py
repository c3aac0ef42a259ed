"""Which units of the feed a commit touches, found from what changed and not from the whole account."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from services.management.core.entities import Entity
from services.management.core.feed.compose import SETTINGS, Unit, units
from services.management.core.feed.forwarder import forwarder_port, knows_forwarder_port
from services.management.core.feed.tally import Index, Tally
from services.management.core.feed.visibility import (
    Sight,
    groups_named_by_policy,
    groups_named_by_route,
    members,
    rules_in_force,
    sights,
)
from services.management.core.model.account import Account
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.model.route import Route
from services.management.core.state import AccountState, Change

E = TypeVar("E")


class _Need(msgspec.Struct, frozen=True, gc=False):
    """What a route's documents depend on besides the route itself.

    kind: "carrier", that peer; "carriers", the members of that group; "access", the rules to that group.
    """

    kind: str
    id: str


class FeedIndex:
    """The relations of one account (compose.Relations), kept up to date commit by commit.

    state: the account, which its owner folds further; `touched` must be told of every commit directly after that.
    """

    def __init__(self, state: AccountState) -> None:
        self._state = state
        self._sights: Tally[Sight] = Tally()
        self._viewers: Index[str, str] = Index()
        self._named: Tally[str] = Tally()
        self._rules_to: Index[str, PolicyRule] = Index()
        self._routes_by_need: Index[_Need, str] = Index()
        self._peers = 0
        self._peers_that_know_the_port = 0
        for peer in state.peers.values():
            self._count(peer, 1)
        for policy in state.policies.values():
            self._put_policy(policy)
        for route in state.routes.values():
            self._put_route(route)
        self._settle()
        self._port = self.forwarder_port()

    def viewers(self, audience: str) -> Iterable[str]:
        return self._viewers.values(audience)

    def is_named(self, group_id: str) -> bool:
        return group_id in self._named

    def rules_to(self, group_id: str) -> Iterable[PolicyRule]:
        return self._rules_to.values(group_id)

    def forwarder_port(self) -> int:
        return forwarder_port(self._peers, self._peers_that_know_the_port)

    def touched(self, changes: Sequence[Change]) -> set[Unit]:
        """The units whose documents may differ after the commit that made these changes.

        Groups, setup keys, users and tokens touch nothing by themselves. A route, or a policy between audiences that
        see each other already, touches no peer unless it names a group that nothing else names.
        """
        found = {unit for change in changes for unit in self._follow(change)}
        found |= self._settle()
        if self._port != self.forwarder_port():
            self._port = self.forwarder_port()
            found.add(SETTINGS)
        return found

    def _follow(self, change: Change) -> Iterable[Unit]:
        match change.ref.kind:
            case "account":
                return self._account(_as(Account, change.old), _as(Account, change.new))
            case "peer":
                return self._peer(change.ref.id, _as(Peer, change.old), _as(Peer, change.new))
            case "policy":
                return self._policy(change.ref.id, _as(Policy, change.old), _as(Policy, change.new))
            case "route":
                return self._route(change.ref.id, _as(Route, change.old), _as(Route, change.new))
        return ()

    def _account(self, old: Account | None, new: Account | None) -> Iterable[Unit]:
        if old and new and (old.dns_domain, old.all_group) == (new.dns_domain, new.all_group):
            return (SETTINGS,)
        return units(self._state)  # every peer's name, or the audiences of every peer

    def _peer(self, peer_id: str, old: Peer | None, new: Peer | None) -> Iterator[Unit]:
        self._count(old, -1)
        self._count(new, 1)
        yield Unit("self", peer_id)
        yield Unit("peer", peer_id)
        for group in self._groups(old) ^ self._groups(new):
            yield from self._routes_that_need(_Need("carriers", group))
        if old is None or new is None:
            yield from self._routes_that_need(_Need("carrier", peer_id))

    def _groups(self, peer: Peer | None) -> set[str]:
        return set(self._state.groups_of(peer)) if peer else set()

    def _count(self, peer: Peer | None, number: int) -> None:
        if peer:
            self._peers += number
            self._peers_that_know_the_port += number * knows_forwarder_port(peer.meta.version)

    def _policy(self, policy_id: str, old: Policy | None, new: Policy | None) -> Iterator[Unit]:
        if old:
            self._drop_policy(old)
        if new:
            self._put_policy(new)
        yield Unit("policy", policy_id)
        for group in _destinations_that_differ(old, new):
            yield from self._routes_that_need(_Need("access", group))

    def _put_policy(self, policy: Policy) -> None:
        self._sights.add(sights(policy), 1)
        self._named.add(groups_named_by_policy(policy), 1)
        for name, group, rule in _rules_by_destination(policy):
            self._rules_to.put(group, name, rule)

    def _drop_policy(self, policy: Policy) -> None:
        self._sights.add(sights(policy), -1)
        self._named.add(groups_named_by_policy(policy), -1)
        for name, group, _ in _rules_by_destination(policy):
            self._rules_to.drop(group, name)

    def _route(self, route_id: str, old: Route | None, new: Route | None) -> Iterable[Unit]:
        if old:
            self._drop_route(old)
        if new:
            self._put_route(new)
        return _units_of_route(route_id)

    def _put_route(self, route: Route) -> None:
        self._named.add(groups_named_by_route(route), 1)
        for need in _needs(route):
            self._routes_by_need.put(need, route.id, route.id)

    def _drop_route(self, route: Route) -> None:
        self._named.add(groups_named_by_route(route), -1)
        for need in _needs(route):
            self._routes_by_need.drop(need, route.id)

    def _routes_that_need(self, need: _Need) -> Iterator[Unit]:
        for route_id in self._routes_by_need.values(need):
            yield from _units_of_route(route_id)

    def _settle(self) -> set[Unit]:
        """The peers whose documents have other viewers now, or show other groups."""
        seen_otherwise = set()
        for sight in self._sights.settle():
            seen_otherwise.add(sight.seen)
            if sight in self._sights:
                self._viewers.put(sight.seen, sight.viewer, sight.viewer)
            else:
                self._viewers.drop(sight.seen, sight.viewer)
        peers = {peer_id for audience in seen_otherwise for peer_id in members(self._state, audience)}
        peers.update(peer_id for group in self._named.settle() for peer_id in self._state.members(group))
        return {Unit("peer", peer_id) for peer_id in peers}


def _as(kind: type[E], entity: Entity | None) -> E | None:
    return entity if isinstance(entity, kind) else None


def _units_of_route(route_id: str) -> tuple[Unit, Unit]:
    return Unit("route", route_id), Unit("resolution", route_id)


def _needs(route: Route) -> set[_Need]:
    return {
        *(_Need("carrier", peer_id) for peer_id in (route.peer,) if peer_id),
        *(_Need("carriers", group) for group in route.peer_groups),
        *(_Need("access", group) for group in route.access_control_groups),
    }


def _rules_by_destination(policy: Policy) -> Iterator[tuple[str, str, PolicyRule]]:
    """A name that no other rule has, a destination group, and the rule; for the rules in force."""
    for position, rule in enumerate(rules_in_force(policy)):
        for group in set(rule.destinations):
            yield f"{policy.id} {position}", group, rule


def _destinations_that_differ(old: Policy | None, new: Policy | None) -> set[str]:
    """Destination groups of the rules that are in force in one of the two and not in the other."""
    before = list(rules_in_force(old)) if old else []
    after = list(rules_in_force(new)) if new else []
    differing = (*(rule for rule in before if rule not in after), *(rule for rule in after if rule not in before))
    return {group for rule in differing for group in rule.destinations}

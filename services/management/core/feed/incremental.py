"""Which units of the feed a commit touches, found from what changed and not from the whole account."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from services.management.core.entities import KINDS, Entity
from services.management.core.feed.compose import units
from services.management.core.feed.forwarder import forwarder_port, knows_forwarder_port
from services.management.core.feed.tally import Index, Tally
from services.management.core.feed.unit import EVERYTHING, FORWARDER_PORT, NAMED, VIEWERS, Topic, Unit, UnitKind
from services.management.core.feed.units import UNITS
from services.management.core.feed.visibility import Sight, rules_in_force
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.state import AccountState, Change

T = TypeVar("T")

_OF_ENTITY: dict[str, list[UnitKind[Any]]] = {
    name: [kind for kind in UNITS if kind.entity is struct] for struct, name in KINDS.items()
}
_SHOWN_BY: dict[str, list[tuple[UnitKind[Any], Callable[[Any], str]]]] = {
    name: [(kind, kind.parts[struct]) for kind in UNITS if struct in kind.parts] for struct, name in KINDS.items()
}
_FOLLOWERS = {kind.name: [other.name for other in UNITS if other.follows == kind.name] for kind in UNITS}
_LISTENERS = {topic: [kind for kind in UNITS if topic in kind.listens] for kind in UNITS for topic in kind.listens}
_SHOWS = {kind.name: kind.shows for kind in UNITS if kind.shows}


class FeedIndex:
    """The relations of one account (unit.Relations), kept up to date commit by commit.

    state: the account, which its owner folds further; `touched` must be told of every commit directly after that.
    """

    def __init__(self, state: AccountState) -> None:
        self._state = state
        self._sights: Tally[Sight] = Tally()
        self._shown: dict[Unit, tuple[Sight, ...]] = {}
        self._viewers: Index[str, str, str] = Index()
        self._named: Tally[str] = Tally()
        self._rules_to: Index[str, str, PolicyRule] = Index()
        self._needing: Index[Topic, Unit, Unit] = Index()
        self._versions: dict[str, str] = {}
        self._unseen: set[str] = set()
        self._peers = 0
        self._peers_that_know_the_port = 0
        self._port = 0
        for peer in state.peers.values():
            self._count(peer, 1)
        for policy in state.policies.values():
            self._count(policy, 1)
        for kind in UNITS:
            if kind.names or kind.needs:
                for entity in state.table(kind.entity).values():
                    self._follow(kind, entity.id, None, entity)
            if kind.shows:
                self._show(kind.units(state))
        self._settle()

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
        found: set[Unit] = set()
        topics: set[Topic] = set()
        for change in changes:
            self._count(change.old, -1)
            self._count(change.new, 1)
            for kind in _OF_ENTITY[change.ref.kind]:
                self._follow(kind, change.ref.id, change.old, change.new)
                found.update(_with_followers(kind.unit(change.ref.id)))
                if kind.raises:
                    topics.update(kind.raises(self._state, change.old, change.new))
            for kind, unit_of in _SHOWN_BY[change.ref.kind]:
                for entity in filter(None, (change.old, change.new)):
                    found.update(_with_followers(Unit(kind.name, unit_of(entity))))
        found.update(self._touched_by(topics))
        self._show(found)
        found.update(self._touched_by(self._settle()))
        return found

    def heard(self, peer_id: str, version: str, *, unseen: bool) -> set[Unit]:
        """The units that may differ after the peer's agent reported a version ("": none since it enrolled), or the peer
        was not seen for long, or is again."""
        if (self._versions.get(peer_id, ""), peer_id in self._unseen) == (version, unseen):
            return set()
        peer = self._state.peers.get(peer_id)
        self._count(peer, -1)
        self._versions.pop(peer_id, None)
        if version:
            self._versions[peer_id] = version
        (self._unseen.add if unseen else self._unseen.discard)(peer_id)
        self._count(peer, 1)
        return set(self._touched_by(self._settle()))

    def _count(self, entity: Entity | None, number: int) -> None:
        """Take a peer or a policy into the account of all of them (1), or out of it (-1)."""
        if isinstance(entity, Peer) and entity.id not in self._unseen:
            self._peers += number
            version = self._versions.get(entity.id, entity.meta.version)
            self._peers_that_know_the_port += number * knows_forwarder_port(version)
        elif isinstance(entity, Policy):
            for name, group, rule in _rules_by_destination(entity):
                self._rules_to.count(group, name, rule, number)

    def _follow(self, kind: UnitKind[Any], id: str, old: Entity | None, new: Entity | None) -> None:
        """What the entity names and what its unit needs, as it is now."""
        if kind.names:
            for group, number in _difference(kind.names, old, new):
                self._named.add((group,), number)
        if kind.needs:
            unit = kind.unit(id)
            for topic, number in _difference(kind.needs, old, new):
                self._needing.count(topic, unit, unit, number)

    def _show(self, touched: Iterable[Unit]) -> None:
        """Find out anew what the units show to whom."""
        for unit in touched:
            if unit.kind in _SHOWS:
                sights = tuple(_SHOWS[unit.kind](self._state, self, unit.id))
                self._sights.add(sights, 1)
                self._sights.add(self._shown.pop(unit, ()), -1)
                if sights:
                    self._shown[unit] = sights

    def _settle(self) -> set[Topic]:
        """What has changed of the relations that entities have only together."""
        topics = {Topic(NAMED, group) for group in self._named.settle()}
        for sight in self._sights.settle():
            topics.add(Topic(VIEWERS, sight.seen))
            self._viewers.count(sight.seen, sight.viewer, sight.viewer, 1 if sight in self._sights else -1)
        if self._port != self.forwarder_port():
            self._port = self.forwarder_port()
            topics.add(FORWARDER_PORT)
        return topics

    def _touched_by(self, topics: set[Topic]) -> Iterator[Unit]:
        if EVERYTHING in topics:
            yield from units(self._state)
        for topic in topics:
            for unit in self._needing.values(topic):
                yield from _with_followers(unit)
            for kind in _LISTENERS.get(topic.kind, ()):
                for id in kind.listens[topic.kind](self._state, topic.id):
                    yield from _with_followers(Unit(kind.name, id))


def _difference(of: Callable[[Any], set[T]], old: Entity | None, new: Entity | None) -> Iterator[tuple[T, int]]:
    """What the old entity had and the new one has not (-1), then what only the new one has (1)."""
    before, after = of(old) if old else set(), of(new) if new else set()
    if before != after:
        yield from ((one, -1) for one in before - after)
        yield from ((one, 1) for one in after - before)


def _with_followers(unit: Unit) -> Iterator[Unit]:
    yield unit
    for follower in _FOLLOWERS[unit.kind]:
        yield Unit(follower, unit.id)


def _rules_by_destination(policy: Policy) -> Iterator[tuple[str, str, PolicyRule]]:
    """A name that no other rule has, a destination group, and the rule; for the rules in force."""
    for position, rule in enumerate(rules_in_force(policy)):
        for group in set(rule.destinations):
            yield f"{policy.id} {position}", group, rule

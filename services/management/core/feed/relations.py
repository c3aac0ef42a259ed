"""The relations of one state, found by looking at all of it. The projector keeps them up to date (incremental.py)."""

from collections import defaultdict
from collections.abc import Iterable

from services.management.core.feed.forwarder import forwarder_port, knows_forwarder_port
from services.management.core.feed.unit import NOTHING, Observed
from services.management.core.feed.units import UNITS
from services.management.core.feed.visibility import rules_in_force
from services.management.core.model.policy import PolicyRule
from services.management.core.state import AccountState


class RelationsOf:
    """See unit.Relations."""

    def __init__(self, state: AccountState, observed: Observed = NOTHING) -> None:
        self._state = state
        self._observed = observed
        self._viewers: dict[str, set[str]] = defaultdict(set)
        self._rules_to: dict[str, list[PolicyRule]] = defaultdict(list)
        self._named: set[str] = set()
        for policy in state.policies.values():
            for rule in rules_in_force(policy):
                for group in set(rule.destinations):
                    self._rules_to[group].append(rule)
        for kind in UNITS:
            if kind.names:
                self._named.update(*map(kind.names, state.table(kind.entity).values()))
            if kind.shows:
                for unit in kind.units(state):
                    for sight in kind.shows(state, self, unit.id):
                        self._viewers[sight.seen].add(sight.viewer)

    def viewers(self, audience: str) -> Iterable[str]:
        return self._viewers.get(audience, ())

    def is_named(self, group_id: str) -> bool:
        return group_id in self._named

    def rules_to(self, group_id: str) -> Iterable[PolicyRule]:
        return self._rules_to.get(group_id, ())

    def forwarder_port(self) -> int:
        seen = [peer for peer in self._state.peers.values() if peer.id not in self._observed.unseen]
        versions = [self._observed.versions.get(peer.id, peer.meta.version) for peer in seen]
        return forwarder_port(len(seen), sum(map(knows_forwarder_port, versions)))

"""Who sees whom: a rule in force shows each of its sides to the other.

Action, protocol, ports and direction do not matter for that, as in NetBird: a policy that only drops still connects
(reference control-plane §3.1).
"""

from collections.abc import Iterable, Iterator
from itertools import product

import msgspec

from services.management.core.model.policy import Policy, PolicyRule, ResourceRef
from services.management.core.state import AccountState
from shared.events.subjects import BadSubject, group_audience, peer_audience


class Sight(msgspec.Struct, frozen=True, gc=False):
    """Members of the audience `seen` are shown to the audience `viewer`."""

    seen: str
    viewer: str


def rules_in_force(policy: Policy) -> Iterator[PolicyRule]:
    """The enabled rules of an enabled policy."""
    if policy.enabled:
        yield from (rule for rule in policy.rules if rule.enabled)


def source_peers(rule: PolicyRule) -> tuple[str, ...]:
    """The peer named directly as source, or nothing."""
    return _named_peer(rule.source_resource)


def destination_peers(rule: PolicyRule) -> tuple[str, ...]:
    return _named_peer(rule.destination_resource)


def _named_peer(resource: ResourceRef | None) -> tuple[str, ...]:
    if resource is None or resource.type != "peer":
        return ()
    try:
        peer_audience(resource.id)
    except BadSubject:  # an id nobody has: it must not stop the documents of everybody else
        return ()
    return (resource.id,)


def source_audiences(rule: PolicyRule) -> set[str]:
    return {*map(group_audience, rule.sources), *map(peer_audience, source_peers(rule))}


def destination_audiences(rule: PolicyRule) -> set[str]:
    return {*map(group_audience, rule.destinations), *map(peer_audience, destination_peers(rule))}


def sights(policy: Policy) -> set[Sight]:
    """What the policy shows to whom, in both directions."""
    return {
        sight
        for rule in rules_in_force(policy)
        for source, destination in product(source_audiences(rule), destination_audiences(rule))
        for sight in (Sight(source, destination), Sight(destination, source))
    }


def audiences_of(peer_id: str, groups: Iterable[str]) -> tuple[str, ...]:
    """Every audience a peer is in, sorted: its groups' and its own. groups: All included."""
    return tuple(sorted({*map(group_audience, groups), peer_audience(peer_id)}))


def members(state: AccountState, audience: str) -> Iterable[str]:
    """Ids of the peers in an audience; a peer that is named but does not exist is given too."""
    kind, _, name = audience.partition(".")
    return state.members(name) if kind == "g" else (name,)

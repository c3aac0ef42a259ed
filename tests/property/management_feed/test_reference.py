"""The feed, as peers read it, against expanding every rule to pairs of peers."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from services.management.core.feed.compose import documents
from services.management.core.model.commit import Commit
from services.management.core.model.peer import Peer
from services.management.core.model.policy import PolicyRule, ResourceRef
from services.management.core.state import AccountState
from shared.events.documents import PeerDoc, RouteDoc, RuleDoc, SelfDoc
from tests.property.management_feed import histories
from tests.property.management_feed.histories import Fold


def is_member(state: AccountState, peer: Peer, groups: Iterable[str], resource: ResourceRef | None) -> bool:
    directly = resource is not None and resource.type == "peer" and resource.id == peer.id
    return directly or bool({*peer.groups, state.account.all_group} & set(groups))


def is_source(state: AccountState, rule: PolicyRule, peer: Peer) -> bool:
    return is_member(state, peer, rule.sources, rule.source_resource)


def is_destination(state: AccountState, rule: PolicyRule, peer: Peer) -> bool:
    return is_member(state, peer, rule.destinations, rule.destination_resource)


def rules_in_force(state: AccountState) -> list[PolicyRule]:
    return [rule for policy in state.policies.values() if policy.enabled for rule in policy.rules if rule.enabled]


def audiences(state: AccountState, peer_id: str) -> tuple[str, ...]:
    own = [d for d in documents(state).values() if isinstance(d, SelfDoc) and d.peer_id == peer_id]
    assert len(own) == 1
    return own[0].audiences


@given(histories.populations(), st.lists(histories.commits(), max_size=4))
def test_c3_a_peer_reads_of_exactly_those_a_rule_connects_it_with(start: Commit, commits: list[Commit]) -> None:
    state = Fold(start, *commits).state
    feed = documents(state)
    for reader in state.peers.values():
        mine = audiences(state, reader.id)
        read = {d.peer_id for key, d in feed.items() if isinstance(d, PeerDoc) and key.audience in mine}
        connected = {
            other.id
            for other in state.peers.values()
            for rule in rules_in_force(state)
            if (is_source(state, rule, reader) and is_destination(state, rule, other))
            or (is_source(state, rule, other) and is_destination(state, rule, reader))
        }
        assert read - {reader.id} == connected - {reader.id}


@given(histories.populations(), st.lists(histories.commits(), max_size=4))
def test_a_peer_reads_exactly_the_rules_it_is_a_side_of(start: Commit, commits: list[Commit]) -> None:
    state = Fold(start, *commits).state
    feed = documents(state)
    for reader in state.peers.values():
        mine = audiences(state, reader.id)
        read = {d.rule_id for key, d in feed.items() if isinstance(d, RuleDoc) and key.audience in mine}
        involved = {
            rule.id
            for rule in rules_in_force(state)
            if is_source(state, rule, reader) or is_destination(state, rule, reader)
        }
        assert read == involved


@given(histories.populations(), st.lists(histories.commits(), max_size=4))
def test_a1_a2_a3_a_routing_peer_permits_exactly_the_members_that_the_rules_let_through(
    start: Commit, commits: list[Commit]
) -> None:
    state = Fold(start, *commits).state
    copies = [d for d in documents(state).values() if isinstance(d, RouteDoc) and d.permits is not None]
    for route in state.routes.values():
        for source in state.peers.values():
            read = {
                permit.rule_id
                for document in copies
                if document.route_id == route.id and is_member(state, source, document.distribution, None)
                for permit in document.permits or ()
                if source.id in permit.source_peers or is_member(state, source, permit.sources, None)
            }
            assert read == permitted(state, route.id, source)


def permitted(state: AccountState, route_id: str, source: Peer) -> set[str]:
    """Ids of the rules that let the source through, {""} where no rule is needed."""
    route = state.routes[route_id]
    served = route.peer in state.peers or any(
        is_member(state, peer, route.peer_groups, None) for peer in state.peers.values()
    )
    if not (route.enabled and served and is_member(state, source, route.groups, None)):
        return set()
    if not route.access_control_groups:
        return {""}
    return {
        rule.id
        for rule in rules_in_force(state)
        if set(rule.destinations) & set(route.access_control_groups) and is_source(state, rule, source)
    }

"""Who serves a route and who gets it."""

from collections.abc import Iterator

from services.management.core.model.peer import Peer
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.subjects import group_audience, peer_audience


def routing_peers(state: AccountState, route: Route) -> tuple[str, ...]:
    """Ids of the route's routing peers, sorted; () for a route nobody serves."""
    named = {route.peer} & state.peers.keys()
    return tuple(sorted(named.union(*(state.members(group) for group in route.peer_groups))))


def served_by(state: AccountState, peer: Peer) -> Iterator[Route]:
    """The enabled routes that a peer of the account serves, by its name or through a group; one may come twice."""
    groups = (*peer.groups, state.account.all_group)
    return (route for route in state.route_index.of_peer(peer.id, groups) if route.enabled)


def distribution_audiences(route: Route) -> set[str]:
    return {group_audience(group) for group in route.groups}


def serving_audiences(route: Route) -> set[str]:
    if route.peer:
        return {peer_audience(route.peer)}
    return {group_audience(group) for group in route.peer_groups}


def ha_set(state: AccountState, route: Route) -> list[Route]:
    """The route and those that make an HA set with it, enabled or not (decision R5)."""
    return [route, *filter(route.same_ha_set, state.route_index.same_destination(route))]

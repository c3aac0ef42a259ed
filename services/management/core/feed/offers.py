"""Who serves a route and who gets it."""

from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.subjects import group_audience, peer_audience


def routing_peers(state: AccountState, route: Route) -> tuple[str, ...]:
    """Ids of the route's routing peers, sorted; () for a route nobody serves."""
    named = {route.peer} & state.peers.keys()
    return tuple(sorted(named.union(*(state.members(group) for group in route.peer_groups))))


def distribution_audiences(route: Route) -> set[str]:
    return {group_audience(group) for group in route.groups}


def serving_audiences(route: Route) -> set[str]:
    if route.peer:
        return {peer_audience(route.peer)}
    return {group_audience(group) for group in route.peer_groups}

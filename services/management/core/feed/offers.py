"""Routes as their clients and their routing peers see them."""

from collections.abc import Iterable

from msgspec.structs import replace

from services.management.core.feed.permits import permits
from services.management.core.model.policy import PolicyRule
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.documents import ResolutionDoc, ResolvedName, RouteDoc
from shared.events.subjects import group_audience, peer_audience


def routing_peers(state: AccountState, route: Route) -> tuple[str, ...]:
    """Ids of the peers that carry the route, sorted; () for a route nobody serves."""
    named = {route.peer} & state.peers.keys()
    return tuple(sorted(named.union(*(state.members(group) for group in route.peer_groups))))


def route_documents(state: AccountState, route: Route, rules: Iterable[PolicyRule]) -> dict[str, RouteDoc]:
    """The route's copies by audience; {} while it is disabled or nobody serves it.

    An audience that both serves the route and is distributed to gets the copy with permits.
    rules: see `permits`.
    """
    if not route.enabled:
        return {}
    carriers = routing_peers(state, route)
    if not carriers:
        return {}
    for_clients = _document(route, carriers)
    for_carriers = replace(for_clients, permits=permits(route, rules))
    return dict.fromkeys(_distribution_audiences(route), for_clients) | dict.fromkeys(
        _carrier_audiences(route), for_carriers
    )


def resolution_documents(
    state: AccountState, route: Route, names: tuple[ResolvedName, ...]
) -> dict[str, ResolutionDoc]:
    """The addresses of a route's names, for everybody who sees the route; {} when there are none.

    names: what was resolved last, perhaps for domains that the route had before; those are left out.
    """
    current = tuple(name for name in names if name.name in route.domains)
    if not current or not route.enabled or not routing_peers(state, route):
        return {}
    document = ResolutionDoc(route_id=route.id, names=current)
    return dict.fromkeys(_distribution_audiences(route) | _carrier_audiences(route), document)


def _distribution_audiences(route: Route) -> set[str]:
    return {group_audience(group) for group in route.groups}


def _carrier_audiences(route: Route) -> set[str]:
    if route.peer:
        return {peer_audience(route.peer)}
    return {group_audience(group) for group in route.peer_groups}


def _document(route: Route, carriers: tuple[str, ...]) -> RouteDoc:
    return RouteDoc(
        route_id=route.id,
        network_id=route.network_id,
        network=route.network,
        domains=route.domains,
        metric=route.metric,
        masquerade=route.masquerade,
        keep_route=route.keep_route,
        skip_auto_apply=route.skip_auto_apply,
        routing_peers=carriers,
        distribution=tuple(sorted(set(route.groups))),
        permits=None,
    )

"""A route, for its distribution groups and, with its permits, for its routing peers."""

from collections.abc import Iterator

from msgspec.structs import replace

from services.management.core.feed.offers import distribution_audiences, ha_set, routing_peers, serving_audiences
from services.management.core.feed.permits import permits
from services.management.core.feed.unit import Copies, Given, Topic, UnitKind
from services.management.core.feed.units.peer import EXISTS, MEMBERS
from services.management.core.feed.units.policy import RULES
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.documents import RouteDoc

SERVING = "serving"
"""Topic: which routes the peers of the audience `id` serve, and to whom."""

HA_SET = "ha set"
"""Topic: which enabled routes are of the HA set `id`."""


def _documents(given: Given, route_id: str) -> Copies:
    """Nothing while the route is disabled or has no routing peer.

    An audience that both serves the route and is distributed to gets the copy with permits.
    """
    route = given.state.routes.get(route_id)
    if route is None or not route.enabled:
        return
    serving = routing_peers(given.state, route)
    if not serving:
        return
    rules = (rule for group in route.access_control_groups for rule in given.relations.rules_to(group))
    for_clients = _document(route, serving)
    alone = not any(other.enabled for other in ha_set(given.state, route)[1:])
    for_routing_peers = replace(for_clients, permits=permits(route, rules), alone=alone)
    audiences = serving_audiences(route)
    for audience in distribution_audiences(route) - audiences:
        yield audience, route_id, for_clients
    for audience in audiences:
        yield audience, route_id, for_routing_peers


def _document(route: Route, serving: tuple[str, ...]) -> RouteDoc:
    return RouteDoc(
        route_id=route.id,
        network_id=route.network_id,
        network=route.network,
        domains=route.domains,
        metric=route.metric,
        masquerade=route.masquerade,
        keep_route=route.keep_route,
        skip_auto_apply=route.skip_auto_apply,
        routing_peers=serving,
        distribution=tuple(sorted(set(route.groups))),
        permits=None,
        probe=route.probe,
        return_address=route.return_address,
    )


def _ha_set(route: Route) -> Topic:
    return Topic(HA_SET, f"{' '.join(sorted(route.domains)) or route.network} {route.network_id}")


def _needs(route: Route) -> set[Topic]:
    return {
        _ha_set(route),
        *(Topic(EXISTS, peer_id) for peer_id in (route.peer,) if peer_id),
        *(Topic(MEMBERS, group) for group in route.peer_groups),
        *(Topic(RULES, group) for group in route.access_control_groups),
    }


def _raised(_state: AccountState, old: Route | None, new: Route | None) -> Iterator[Topic]:
    before, after = (_topics(route) if route and route.enabled else set() for route in (old, new))
    yield from {topic for topic, _ in before ^ after}


def _topics(route: Route) -> set[tuple[Topic, str]]:
    """What the enabled route is part of, and as what."""
    serving = (Topic(SERVING, audience) for audience in serving_audiences(route))
    return {(_ha_set(route), ""), *((topic, " ".join(sorted(set(route.groups)))) for topic in serving)}


def _named(route: Route) -> set[str]:
    return {*route.groups, *route.peer_groups, *route.access_control_groups}


def _for_clients(document: RouteDoc) -> bool:
    """A routing peer is told of a route before its clients."""
    return document.permits is None


ROUTE = UnitKind(
    name="route",
    entity=Route,
    makes=RouteDoc,
    documents=_documents,
    late=_for_clients,
    withdrawn_first=True,
    needs=_needs,
    raises=_raised,
    names=_named,
)

"""The addresses of a route's names, for everybody who sees the route."""

from msgspec.structs import replace

from services.management.core.feed.offers import distribution_audiences, routing_peers, serving_audiences
from services.management.core.feed.unit import Copies, Given, UnitKind
from services.management.core.model.route import Route
from shared.events.documents import ROUTING_PEER, ResolutionDoc, ResolvedName


def _documents(given: Given, route_id: str) -> Copies:
    """Nothing while there are no addresses. What was resolved for domains that the route had before is left out."""
    route = given.state.routes.get(route_id)
    names = given.observed.resolutions.get(route_id)
    if route is None or names is None:
        return
    current = tuple(_told(name) for name in names if name.name in route.domains)
    if not current or not route.enabled or not routing_peers(given.state, route):
        return
    document = ResolutionDoc(route_id=route.id, names=current)
    for audience in distribution_audiences(route) | serving_audiences(route):
        yield audience, route_id, document


def _told(name: ResolvedName) -> ResolvedName:
    """Which DNS server an account or its operator asks is nothing that hosts are told (decision C3)."""
    return name if name.source.startswith(ROUTING_PEER) else replace(name, source="")


RESOLUTION = UnitKind(
    name="resolution",
    entity=Route,
    makes=ResolutionDoc,
    documents=_documents,
    withdrawn_first=True,
    follows="route",
)

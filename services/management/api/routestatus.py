"""Who serves a route, and how many clients are on each."""

from typing import Annotated

import msgspec

from services.management.api.call import Call
from services.management.api.wire import Id
from services.management.core.commands.request import about
from services.management.core.feed.offers import routing_peers
from services.management.core.feed.unit import LastWord
from services.management.core.model.peer import Peer
from services.management.core.model.route import Route

UNHEARD = LastWord(agent=False)


class RoutingPeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """withdrawn: absent while it carries the route by its own word."""

    id: Id
    name: str
    connected: Annotated[bool, about("Whether its agent is there; its kernel may go on without.")]
    draining: Annotated[bool, about("It, or people, want clients to leave it.")]
    withdrawn: Annotated[str | msgspec.UnsetType, about("Why it does not carry the route now.", "eth1 is down")] = (
        msgspec.UNSET
    )
    holds_return_address: bool
    clients: Annotated[int, about("How many connected clients use it for this route, by their reports.", 3)]


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """routing_peers: oldest first."""

    routing_peers: list[RoutingPeerStatus]


def status_of(call: Call, route: Route) -> RouteStatus:
    """The route as it is served now."""
    state = call.state
    return RouteStatus(routing_peers=[_of(call, route, state.peers[id]) for id in routing_peers(state, route)])


def _of(call: Call, route: Route, peer: Peer) -> RoutingPeerStatus:
    word = call.deps.last_words(call.account).get(peer.id, UNHEARD)
    reasons = {entry.route_id: entry.reason for entry in word.withdrawn}
    return RoutingPeerStatus(
        id=peer.id,
        name=peer.name,
        connected=word.agent,
        draining=peer.draining or word.draining,
        withdrawn=reasons.get(route.id, msgspec.UNSET),
        holds_return_address=route.id in word.holds,
        clients=call.deps.facts.clients(call.account, route.id, peer.id),
    )

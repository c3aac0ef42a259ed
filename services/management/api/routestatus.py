"""Who serves a route, how many clients are on each, and what its names stand for."""

from datetime import datetime
from typing import Annotated

import msgspec

from services.management.api.call import Call
from services.management.api.wire import Id, moment
from services.management.core.commands.request import about
from services.management.core.feed.offers import routing_peers
from services.management.core.feed.unit import LastWord
from services.management.core.model.peer import Peer
from services.management.core.model.route import Route
from shared.events.documents import ResolvedName
from shared.net.domains import to_unicode

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


class AddressStatus(msgspec.Struct, frozen=True, kw_only=True):
    """kept_until: absent while the name has the address, and of one that is kept for ever."""

    address: str
    kept_until: Annotated[
        datetime | msgspec.UnsetType, about("The name has it no more; the route keeps it until then.")
    ] = msgspec.UNSET


class NameStatus(msgspec.Struct, frozen=True, kw_only=True):
    """name: as people write it."""

    name: str
    source: Annotated[str, about("Who answered: peer:<id> of a routing peer, or a DNS server.", "10.0.0.53")]
    addresses: list[AddressStatus]


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """routing_peers: oldest first. names: those of a domain route that have addresses."""

    routing_peers: list[RoutingPeerStatus]
    names: list[NameStatus]


def status_of(call: Call, route: Route) -> RouteStatus:
    """The route as it is served now."""
    state = call.state
    resolved = call.deps.resolutions(call.account).get(route.id, ())
    return RouteStatus(
        routing_peers=[_of(call, route, state.peers[id]) for id in routing_peers(state, route)],
        names=[_name(name) for name in resolved if name.name in route.domains],
    )


def _name(resolved: ResolvedName) -> NameStatus:
    return NameStatus(
        name=to_unicode(resolved.name),
        source=resolved.source,
        addresses=[
            AddressStatus(
                address=each.address, kept_until=moment(each.expires_at) if each.expires_at else msgspec.UNSET
            )
            for each in resolved.addresses
        ],
    )


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

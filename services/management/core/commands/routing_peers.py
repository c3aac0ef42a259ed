"""Who may carry a route: Linux peers (decision R11), and none of them the same destination twice (decision R4).

Enrolment is never refused for it: a host whose setup key puts it into groups that serve one destination by two routes
becomes a routing peer of both. What people write is checked as far as it changes who serves what.
"""

from collections.abc import Iterable

from services.management.core.feed.offers import routing_peers
from services.management.core.model.peer import Peer
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from services.management.errors import AlreadyThere, Unsuitable, names


def check_routing_peers(state: AccountState, route: Route) -> None:
    """Whether the route's peers and groups, all known, may carry it; raises Unsuitable or AlreadyThere."""
    serving = routing_peers(state, route)
    _require_linux(state.peers[id] for id in serving)
    for other in state.route_index.same_destination(route):
        twice = [group for group in route.peer_groups if group in other.peer_groups]
        if twice:
            raise AlreadyThere(_served_twice(f"group {state.groups[twice[0]].name}", other))
        _refuse_common(state, serving, other)


def check_joining(state: AccountState, group_id: str, joining: Iterable[Peer]) -> None:
    """Whether peers may join a group that carries routes; raises Unsuitable or AlreadyThere."""
    joining = list(joining)
    served = state.route_index.served_by(group_id)
    if served:
        _require_linux(joining)
    ids = {peer.id for peer in joining}
    for route in served:
        for other in state.route_index.same_destination(route):
            _refuse_common(state, ids, other)


def _require_linux(peers: Iterable[Peer]) -> None:
    others = sorted(peer.name for peer in peers if peer.meta.go_os != "linux")
    if others:
        raise Unsuitable(f"routing peers must run linux: choose others than {names(others)}")


def _refuse_common(state: AccountState, serving: Iterable[str], other: Route) -> None:
    twice = sorted(set(routing_peers(state, other)).intersection(serving))
    if twice:
        raise AlreadyThere(_served_twice(f"peer {state.peers[twice[0]].name}", other))


def _served_twice(who: str, other: Route) -> str:
    return f"{who} already serves {other.destination} by route {other.network_id}: choose another or change that route"

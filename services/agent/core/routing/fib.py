"""The overlay's routing table of a client, and the routed prefixes each routing peer gets as allowed IPs."""

from collections.abc import Iterable, Mapping

import msgspec

from services.agent.core.documents import Documents
from services.agent.core.intervals import Network
from services.agent.core.kernel import RouteEntry
from services.agent.core.routing.choices import Selection, selected
from services.agent.core.routing.destinations import Overlay, destinations
from services.agent.core.routing.hagroups import V4_EXIT, V6_EXIT, Candidate, HaGroup, candidates, choose, offered

NO_POLICY = "no policy connects this host with a routing peer of the route"
NOBODY_CONNECTED = "no routing peer is connected"
NO_ADDRESSES = "none of its names has an address that can be routed"


class Fib(msgspec.Struct, frozen=True, kw_only=True):
    """routes: prefix → entry. allowed: peer id → routed prefixes. carriers: route id → peer id of its routing peer.

    unplaced: route id → why it is not installed as it is; an exit that nobody carries is here and unreachable.
    """

    routes: Mapping[str, RouteEntry]
    allowed: Mapping[str, frozenset[str]]
    carriers: Mapping[str, str]
    unplaced: Mapping[str, str]


class _Placed(msgspec.Struct, frozen=True, kw_only=True):
    """An HA group in use. carrier: None when nobody carries it, which only an exit survives, as unreachable."""

    group: HaGroup
    networks: tuple[Network, ...]
    carrier: Candidate | None

    @property
    def rank(self) -> tuple[bool, bool, int, str, str]:
        """Lowest first: which of several groups with the same prefix gets it."""
        one = self.carrier
        return (
            one is None,
            one is None or not one.connected,
            one.metric if one else 0,
            one.peer_id if one else "",
            self.group.network_id,
        )


def fib(
    documents: Documents,
    *,
    overlay: Overlay,
    selection: Selection,
    connected: Iterable[str],
    incumbents: Mapping[str, str],
    interface: str,
    ipv6: bool,
) -> Fib:
    """The routes to install. connected: peer ids. incumbents: the carriers of the last Fib. ipv6: the kernel has it.

    A group nobody connected can carry is withdrawn, unless a route of it has keep_route on (decision R2). An exit is
    never withdrawn into the open: it becomes unreachable. With an IPv4 exit and no IPv6 one, IPv6 is unreachable (G8).
    """
    me = documents.self_doc
    if me is None:
        return Fib(routes={}, allowed={}, carriers={}, unplaced={})
    groups = offered(documents.routes.values(), me, documents.peers)
    used = selected(selection, groups)
    unplaced = _without_policy(documents, groups)
    placed = []
    for group in groups:
        if group.network_id in used:
            one, reason = _place(group, documents, overlay, frozenset(connected), incumbents)
            if one is not None:
                placed.append(one)
            if reason:
                unplaced |= {route.route_id: reason for route in group.routes}
    return _installed(placed, unplaced, interface, ipv6=ipv6)


def _without_policy(documents: Documents, groups: Iterable[HaGroup]) -> dict[str, str]:
    usable = {route.route_id for group in groups for route in group.routes}
    me = documents.self_doc
    return {
        route.route_id: NO_POLICY
        for route in documents.routes.values()
        if me is not None
        and route.route_id not in usable
        and me.peer_id not in route.routing_peers
        and not any(peer_id in documents.peers for peer_id in route.routing_peers)
    }


def _place(
    group: HaGroup,
    documents: Documents,
    overlay: Overlay,
    connected: frozenset[str],
    incumbents: Mapping[str, str],
) -> tuple[_Placed | None, str]:
    """The group as it goes into the table, or None; and why not, or not as it is."""
    over_v6 = ":" in group.network
    seen = [documents.peers[peer_id] for peer_id in group.routing_peers if peer_id in documents.peers]
    able = [peer.peer_id for peer in seen if peer.address_v6 or not over_v6]
    incumbent = next((incumbents[route.route_id] for route in group.routes if route.route_id in incumbents), None)
    carrier = choose(candidates(group, able, connected), incumbent)
    if carrier is None:
        reason = f"{group.network} needs a routing peer with an IPv6 address in the overlay"
        return _closed(group) if overlay.ipv6 else None, reason
    route = next(route for route in group.routes if carrier.peer_id in route.routing_peers)
    found = destinations(route, documents.resolutions.get(route.route_id), overlay)
    if found.refused:
        return None, found.refused
    if not carrier.connected and not group.keep_route:
        return _closed(group), NOBODY_CONNECTED
    has_v6 = documents.peers[carrier.peer_id].address_v6 != ""
    networks = tuple(network for network in found.networks if network.version == 4 or has_v6)
    return _Placed(group=group, networks=networks, carrier=carrier), "" if networks else NO_ADDRESSES


def _closed(group: HaGroup) -> _Placed | None:
    """An exit without carrier, which stays and is unreachable (decision R2); None for any other group."""
    network = group.routes[0].prefix
    return _Placed(group=group, networks=(network,), carrier=None) if group.is_exit and network else None


def _installed(placed: Iterable[_Placed], unplaced: Mapping[str, str], interface: str, *, ipv6: bool) -> Fib:
    """One entry for each prefix: where several groups have the same, the best carrier's gets it."""
    routes: dict[str, RouteEntry] = {}
    owners: dict[str, _Placed] = {}
    allowed: dict[str, set[str]] = {}
    carriers: dict[str, str] = {}
    reasons = dict(unplaced)
    for one in sorted(placed, key=lambda one: one.rank):
        won = [str(network) for network in one.networks if owners.setdefault(str(network), one) is one]
        for prefix in won:
            routes[prefix] = _entry(prefix, interface if one.carrier else "")
        if one.carrier is not None and (won or not one.networks):
            allowed.setdefault(one.carrier.peer_id, set()).update(won)
            carriers |= {route.route_id: one.carrier.peer_id for route in one.group.routes}
        elif one.networks and not won:
            other = owners[str(one.networks[0])].group.network_id
            reasons |= {route.route_id: f"{one.networks[0]} is routed by network {other}" for route in one.group.routes}
    if ipv6 and V4_EXIT in routes and V6_EXIT not in routes:
        routes[V6_EXIT] = _entry(V6_EXIT, "")
    return Fib(
        routes=routes,
        allowed={peer_id: frozenset(prefixes) for peer_id, prefixes in allowed.items()},
        carriers=carriers,
        unplaced=reasons,
    )


def _entry(prefix: str, device: str) -> RouteEntry:
    return RouteEntry(prefix=prefix, device=device, unreachable=not device)

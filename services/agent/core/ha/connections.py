"""Which connections end when other routing peers carry prefixes, and which of them a routing peer may forget.

A routing peer that masquerades gives a connection its own address, so that the connection cannot go on through
another one. Where neither the former nor the present one masquerades, it goes on.
"""

from collections.abc import Iterable, Mapping, Set
from ipaddress import ip_address

import msgspec

from services.agent.core.documents import Documents
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.ha.longest import Longest
from services.agent.core.intervals import Network
from services.agent.core.parsed import Route

NOTHING: Mapping[Network, "Carrier"] = {}


class Carrier(msgspec.Struct, frozen=True, kw_only=True):
    """Who carries a prefix. routes: ids of the routes by which it does. masquerades: for this prefix."""

    peer_id: str
    masquerades: bool
    routes: frozenset[str]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What went to another routing peer. left: peer id → ids of routes that it carried, and another one does now."""

    left: Mapping[str, frozenset[str]]
    before: Longest[Carrier]
    now: Longest[Carrier]

    def breaks(self, one: Socket) -> bool:
        """Whether the connection cannot go on."""
        former, present = self.before.at(one.version, one.destination), self.now.at(one.version, one.destination)
        if former is None or present is None or former.peer_id == present.peer_id:
            return False
        return former.masquerades or present.masquerades


class Carriers:
    """Who carries what, and who did last: a prefix that nobody carries for a while was not moved until somebody does.

    carried: as last told.
    """

    def __init__(self, carried: Mapping[Network, Carrier] = NOTHING) -> None:
        self.carried = carried
        self._last = dict(carried)

    def update(self, carried: Mapping[Network, Carrier], routes: Set[str]) -> Moved | None:
        """What moved since the last time, None for nothing. routes: ids of all there are."""
        if carried == self.carried:
            return None
        last, now, before = self._last, Longest(carried), Longest(self._last)
        self.carried = carried
        waiting = {
            network: one
            for network, one in last.items()
            if network not in carried and one.routes & routes and now.covering(network) is None
        }
        self._last = {**waiting, **carried}
        left: dict[str, frozenset[str]] = {}
        for network, former in last.items():
            present = now.covering(network)
            if present is not None and present.peer_id != former.peer_id:
                left[former.peer_id] = left.get(former.peer_id, frozenset()) | former.routes
        taken = any(
            whose.peer_id != one.peer_id
            for network, one in carried.items()
            if (whose := before.covering(network)) is not None
        )
        return Moved(left=left, before=before, now=now) if left or taken else None


def carriers(documents: Documents, allowed: Mapping[str, Iterable[str]]) -> dict[Network, Carrier]:
    """Who carries each routed prefix. allowed: public key → the prefixes that the device gives to the peer."""
    held = {
        peer_id: frozenset(allowed[peer.wireguard_key])
        for peer_id, peer in documents.peers.items()
        if peer.wireguard_key in allowed
    }
    found: dict[Network, Carrier] = {}
    for route in documents.routes.values():
        peers = [(peer_id, held[peer_id]) for peer_id in route.routing_peers if peer_id in held]
        if not peers:
            continue
        for text, network in networks(documents, route):
            for peer_id, prefixes in peers:
                if text in prefixes:
                    found[network] = _with(found.get(network), peer_id, route)
    return found


def served(documents: Documents, ids: Iterable[str]) -> Longest[frozenset[str]]:
    """The destinations of these routes: the ids of those that an address is behind."""
    found: dict[Network, frozenset[str]] = {}
    for route_id in ids:
        route = documents.routes.get(route_id)
        for _, network in networks(documents, route) if route is not None else ():
            found[network] = found.get(network, frozenset()) | {route_id}
    return Longest(found)


def departed(flows: Iterable[Flow], behind: Longest[frozenset[str]], left: Mapping[str, frozenset[str]]) -> list[Flow]:
    """The connections that were left. behind: all that this host serves, where the longest prefix decides; left: by the
    address that began a connection, the routes that are left from there."""
    routes = {(4 if ":" not in text else 6, int(ip_address(text))): ids for text, ids in left.items()}
    nothing = frozenset[str]()
    return [
        one
        for one in flows
        if (behind.at(one.version, one.destination) or nothing) & routes.get((one.version, one.source), nothing)
    ]


def networks(documents: Documents, route: Route) -> Iterable[tuple[str, Network]]:
    """The prefixes that the route leads to, each with its text."""
    if route.names:
        resolution = documents.resolutions.get(route.route_id)
        return [(str(one), one) for name in resolution.names for one in name.networks] if resolution else ()
    return ((route.canonical, route.prefix),) if route.prefix is not None else ()


def _with(former: Carrier | None, peer_id: str, route: Route) -> Carrier:
    """Of equal prefixes one that wants masquerading is enough, as on the routing peer (decision G10)."""
    same = former if former is not None and former.peer_id == peer_id else None
    return Carrier(
        peer_id=peer_id,
        masquerades=route.masquerade or (same is not None and same.masquerades),
        routes=frozenset((route.route_id,)) | (same.routes if same is not None else frozenset()),
    )

"""The HA groups this host may use, kept up to date route by route and routing peer by routing peer."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from services.agent.core.changes import changed
from services.agent.core.parsed import Peer, Route
from services.agent.core.routing.hagroups import HaGroup, HaKey, distributed, ha_group, ha_key
from shared.events.documents import SelfDoc

K = TypeVar("K")
V = TypeVar("V")

Where: TypeAlias = tuple[str, tuple[str, ...]]
"""Prefix and domains of an HA group: who serves them uses none with the same."""


class Offers:
    """groups: the offered ones, as hagroups.offered gives them. exits: the exit nodes among them.

    Without a document of its own a host is offered none.
    """

    def __init__(self, me: SelfDoc | None) -> None:
        self._me = me
        self._peer_id = me.peer_id if me is not None else ""
        self._routes: Mapping[str, Route] = {}
        self._peers: Mapping[str, Peer] = {}
        self._members: dict[HaKey, dict[str, Route]] = {}
        self._by_peer: dict[str, set[str]] = {}
        self._by_network: dict[str, set[HaKey]] = {}
        self._by_where: dict[Where, set[HaKey]] = {}
        self._mine: Counter[Where] = Counter()
        self.groups: dict[HaKey, HaGroup] = {}
        self.exits: dict[HaKey, HaGroup] = {}

    def update(self, routes: Mapping[str, Route], peers: Mapping[str, Peer]) -> set[HaKey]:
        """Take routes and peers over; gives the keys of groups that may have changed. peers: those that make sense."""
        dirty = self._follow(routes)
        before, self._peers = self._peers, peers
        dirty |= self.routed_by(id for id in changed(before, peers) if _use(before.get(id)) != _use(peers.get(id)))
        for key in dirty:
            group = self._offered(key)
            for held in (self.groups, self.exits):
                held.pop(key, None)
            if group is not None:
                self.groups[key] = group
                if group.is_exit:
                    self.exits[key] = group
        return dirty

    def routed_by(self, peers: Iterable[str]) -> set[HaKey]:
        """The groups that have one of the peers as a routing peer."""
        routes = set[str]().union(*(self._by_peer.get(peer_id, ()) for peer_id in peers))
        return {ha_key(self._routes[route_id]) for route_id in routes}

    def of_network(self, network_id: str) -> set[HaKey]:
        return self._by_network.get(network_id, set())

    def without_policy(self, key: HaKey) -> Iterable[str]:
        """The routes with this key that no policy connects this host with a routing peer of."""
        group = self.groups.get(key)
        if self._me is None:
            return
        for route_id, route in self._members.get(key, {}).items():
            if group is not None and route in group.routes:
                continue
            if self._peer_id not in route.routing_peers and self._peers.keys().isdisjoint(route.routing_peers):
                yield route_id

    def _follow(self, routes: Mapping[str, Route]) -> set[HaKey]:
        """Take the routes over; gives the keys of groups that changed, or that this host began or ceased to serve."""
        before, self._routes = self._routes, routes
        dirty = set[HaKey]()
        served = dict[Where, bool]()
        for route_id in changed(before, routes):
            for route in (before.get(route_id), routes.get(route_id)):
                if route is not None:
                    served.setdefault(_where(ha_key(route)), self._mine[_where(ha_key(route))] > 0)
                    dirty.add(ha_key(route))
            if route_id in before:
                self._remove(before[route_id])
            if route_id in routes:
                self._add(routes[route_id])
        for where, was in served.items():
            if (self._mine[where] > 0) != was:
                dirty |= self._by_where.get(where, set())
        return dirty

    def _add(self, route: Route) -> None:
        key = ha_key(route)
        self._members.setdefault(key, {})[route.route_id] = route
        self._by_network.setdefault(route.network_id, set()).add(key)
        self._by_where.setdefault(_where(key), set()).add(key)
        if self._peer_id in route.routing_peers:
            self._mine[_where(key)] += 1
        for peer_id in route.routing_peers:
            self._by_peer.setdefault(peer_id, set()).add(route.route_id)

    def _remove(self, route: Route) -> None:
        key = ha_key(route)
        del self._members[key][route.route_id]
        if self._peer_id in route.routing_peers:
            self._mine[_where(key)] -= 1
        if not self._members[key]:
            del self._members[key]
            _discard(self._by_network, route.network_id, key)
            _discard(self._by_where, _where(key), key)
        for peer_id in set(route.routing_peers):
            _discard(self._by_peer, peer_id, route.route_id)

    def _offered(self, key: HaKey) -> HaGroup | None:
        """Distributed to this host, with a routing peer it sees (C4), and to a network it does not serve itself."""
        me = self._me
        if me is None or self._mine[_where(key)] > 0:
            return None
        members = [route for route in self._members.get(key, {}).values() if distributed(route, me)]
        seen = any(not self._peers.keys().isdisjoint(route.routing_peers) for route in members)
        return ha_group(key, members) if seen else None


def _where(key: HaKey) -> Where:
    return key[1], key[2]


def _use(peer: Peer | None) -> tuple[bool, bool]:
    """The fields of a peer on which the routes that it may carry depend."""
    return peer is not None, peer is not None and peer.address_v6 != ""


def _discard(index: dict[K, set[V]], key: K, value: V) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]

"""The routes of one account by what they lead to and by who serves them, kept up to date route by route."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar

from services.management.core.model.route import Route
from shared.net.prefix import is_default, network

_Destination: TypeAlias = tuple[str, frozenset[str]]
_Place: TypeAlias = tuple[int, int, int]
"""Family, first address and length of a prefix; sorted, a prefix comes directly before what it holds."""

K = TypeVar("K")

_MOST = 1 << 128
"""More than any address or length."""


class RouteIndex:
    """Routes come out sorted by id. A route is dropped before another one with its id is put."""

    def __init__(self) -> None:
        self._by_destination: dict[_Destination, dict[str, Route]] = {}
        self._by_peer: dict[str, dict[str, Route]] = {}
        self._by_peer_group: dict[str, dict[str, Route]] = {}
        self._by_return_address: dict[str, dict[str, Route]] = {}
        self._by_place: dict[_Place, dict[str, Route]] = {}
        self._places: list[_Place] = []

    def put(self, route: Route) -> None:
        self._by_destination.setdefault(_destination(route), {})[route.id] = route
        if route.peer:
            self._by_peer.setdefault(route.peer, {})[route.id] = route
        for group_id in route.peer_groups:
            self._by_peer_group.setdefault(group_id, {})[route.id] = route
        if route.return_address:
            self._by_return_address.setdefault(route.return_address, {})[route.id] = route
        if route.network:
            place = _place(route.network)
            if place not in self._by_place:
                self._by_place[place] = {}
                insort(self._places, place)
            self._by_place[place][route.id] = route

    def drop(self, route: Route) -> None:
        """Forget the route; it must be there."""
        _drop(self._by_destination, _destination(route), route.id)
        if route.peer:
            _drop(self._by_peer, route.peer, route.id)
        for group_id in set(route.peer_groups):
            _drop(self._by_peer_group, group_id, route.id)
        if route.return_address:
            _drop(self._by_return_address, route.return_address, route.id)
        if route.network:
            place = _place(route.network)
            _drop(self._by_place, place, route.id)
            if place not in self._by_place:
                del self._places[bisect_left(self._places, place)]

    def same_destination(self, route: Route) -> list[Route]:
        """The other routes to the same prefix or the same set of names, enabled or not (decision R4)."""
        return [other for other in _sorted(self._by_destination.get(_destination(route))) if other.id != route.id]

    def served_by(self, group_id: str) -> list[Route]:
        """The routes that name the group among their routing peers."""
        return _sorted(self._by_peer_group.get(group_id))

    def returning_to(self, address: str) -> list[Route]:
        """The routes with that return address."""
        return _sorted(self._by_return_address.get(address))

    def of_peer(self, peer_id: str, groups: Iterable[str]) -> Iterator[Route]:
        """The routes that name the peer or one of `groups` as routing peers, enabled or not; one may come twice."""
        yield from self._by_peer.get(peer_id, {}).values()
        for group_id in groups:
            yield from self._by_peer_group.get(group_id, {}).values()

    def overlapping(self, prefix: str) -> Iterator[Route]:
        """The routes whose prefix equals `prefix`, holds it, or lies in it; an exit route only meets exit routes."""
        for place in self._overlapping(prefix):
            yield from _sorted(self._by_place.get(place))

    def _overlapping(self, prefix: str) -> Iterable[_Place]:
        family, first, length = whole = _place(prefix)
        yield whole
        if is_default(prefix):
            return
        bits = 32 if family == 4 else 128
        for shorter in range(1, length):
            yield family, first >> bits - shorter << bits - shorter, shorter
        last = first + (1 << bits - length) - 1
        inside = bisect_left(self._places, (family, first, length + 1))
        beyond = bisect_left(self._places, (family, last, _MOST))
        yield from self._places[inside:beyond]


def _destination(route: Route) -> _Destination:
    return route.network, frozenset(route.domains)


def _place(prefix: str) -> _Place:
    parsed = network(prefix)
    return parsed.version, int(parsed.network_address), parsed.prefixlen


def _drop(index: dict[K, dict[str, Route]], key: K, route_id: str) -> None:
    del index[key][route_id]
    if not index[key]:
        del index[key]


def _sorted(routes: dict[str, Route] | None) -> list[Route]:
    return [routes[id] for id in sorted(routes)] if routes else []

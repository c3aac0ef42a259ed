"""HA groups: which routes stand for each other, which of them this host may use, and which routing peer carries one."""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from services.agent.core.kernel import Family
from services.agent.core.parsed import Peer, Route
from shared.events.documents import SelfDoc
from shared.events.subjects import group_audience

V4_EXIT = "0.0.0.0/0"
V6_EXIT = "::/0"
EXITS: dict[Family, str] = {"v4": V4_EXIT, "v6": V6_EXIT}


HaKey: TypeAlias = tuple[str, str, tuple[str, ...]]
"""Network id, canonical prefix ("" for domains) and domains (lower case, sorted) of an HA group."""


class HaGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Routes with equal network id and equal prefix or set of domains, sorted by id: they stand for each other (R5).

    network: canonical prefix, "" for domains. domains: lower case, sorted.
    """

    network_id: str
    network: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]

    @property
    def key(self) -> HaKey:
        return self.network_id, self.network, self.domains

    @property
    def is_exit(self) -> bool:
        return self.network in EXITS.values()

    @property
    def routing_peers(self) -> frozenset[str]:
        return frozenset(peer_id for route in self.routes for peer_id in route.routing_peers)

    @property
    def keep_route(self) -> bool:
        return any(route.keep_route for route in self.routes)

    @property
    def return_address(self) -> str:
        """Where answers from the LAN come back, "" for wherever the client's packets went."""
        return next((route.return_address for route in self.routes if route.return_address), "")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A routing peer that could carry an HA group: a peer this host sees, so a policy connects them (decision C4).

    metric: its best. connected: by a WireGuard session.
    """

    peer_id: str
    metric: int
    connected: bool


def ha_key(route: Route) -> HaKey:
    """The HA group of the route."""
    return route.network_id, "" if route.names else route.canonical, route.names


def where_of(key: HaKey) -> str:
    """The group's prefix or domains, for people."""
    _, network, domains = key
    return network or ", ".join(domains)


def ha_group(key: HaKey, routes: Iterable[Route]) -> HaGroup:
    """The HA group of these routes, all with that key."""
    network_id, network, domains = key
    members = tuple(sorted(routes, key=lambda route: route.route_id))
    return HaGroup(network_id=network_id, network=network, domains=domains, routes=members)


def ha_groups(routes: Iterable[Route]) -> tuple[HaGroup, ...]:
    """The routes by HA group, sorted by network id, then prefix, then domains."""
    groups: dict[HaKey, list[Route]] = {}
    for route in routes:
        groups.setdefault(ha_key(route), []).append(route)
    return tuple(ha_group(key, members) for key, members in sorted(groups.items()))


def serves(peer_id: str, route: Route) -> bool:
    """Whether the peer is a routing peer of the route: it is named, and was given the permits."""
    return route.permits is not None and peer_id in route.routing_peers


def distributed(route: Route, me: SelfDoc) -> bool:
    """Whether this host is in one of the route's distribution groups."""
    return any(group_audience(group) in me.audiences for group in route.distribution)


def offered(routes: Iterable[Route], me: SelfDoc, peers: Mapping[str, Peer]) -> tuple[HaGroup, ...]:
    """The HA groups this host may use, sorted as in `ha_groups`.

    They are distributed to it, it sees one of the routing peers (C4), and it does not serve the network itself.
    """
    routes = tuple(routes)
    mine = {(group.network, group.domains) for group in ha_groups(routes) if me.peer_id in group.routing_peers}
    return tuple(
        group
        for group in ha_groups(route for route in routes if distributed(route, me))
        if (group.network, group.domains) not in mine and any(peer_id in peers for peer_id in group.routing_peers)
    )


def candidates(group: HaGroup, peers: Collection[str], connected: Collection[str]) -> tuple[Candidate, ...]:
    """The routing peers of the group among `peers`, each with its best metric, sorted by peer id."""
    best: dict[str, int] = {}
    for route in group.routes:
        for peer_id in route.routing_peers:
            if peer_id in peers:
                best[peer_id] = min(route.metric, best.get(peer_id, route.metric))
    return tuple(
        Candidate(peer_id=peer_id, metric=metric, connected=peer_id in connected)
        for peer_id, metric in sorted(best.items())
    )


def choose(candidates: Iterable[Candidate], incumbent: str | None) -> Candidate | None:
    """The routing peer to use where nobody decided (core/ha/choice.py does, where there is anything to decide about):
    connected, then lowest metric, then the incumbent, then lowest peer id (decision G1)."""
    return min(
        candidates,
        key=lambda one: (not one.connected, one.metric, one.peer_id != incumbent, one.peer_id),
        default=None,
    )


def next_to(wanted: str | None, candidates: Iterable[Candidate]) -> Candidate | None:
    """The candidate with that peer id; without one that with the lowest metric, then the lowest peer id."""
    return min(candidates, key=lambda one: (one.peer_id != wanted, one.metric, one.peer_id), default=None)

"""The overlay's routing table of a client, and the routed prefixes each routing peer gets as allowed IPs.

Computed HA group by HA group: a group depends on its routes and their routing peers, on the exit node in use, and on
the groups that lead to the same prefix. A change computes the groups that it touches, and nothing else.
"""

from collections.abc import Collection, Mapping

import msgspec

from services.agent.core.changes import changed, patched
from services.agent.core.kernel import RouteEntry
from services.agent.core.parsed import Peer, Resolution, Route
from services.agent.core.routing.choices import Selection, choice
from services.agent.core.routing.destinations import Overlay, destinations
from services.agent.core.routing.hagroups import (
    V4_EXIT,
    V6_EXIT,
    Candidate,
    HaGroup,
    HaKey,
    candidates,
    choose,
    ha_key,
    next_to,
)
from services.agent.core.routing.offers import Offers
from shared.events.documents import SelfDoc

NO_POLICY = "no policy connects this host with a routing peer of the route"
NOBODY_CONNECTED = "no routing peer is connected"
NOBODY_USABLE = "no routing peer is usable"
NO_ADDRESSES = "none of its names has an address that can be routed"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What every group depends on. ipv6: whether the kernel has it."""

    me: SelfDoc | None
    overlay: Overlay
    selection: Selection
    interface: str
    ipv6: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What some groups depend on. peers: those that make sense. connected: peer ids. incumbents: route id → id of the
    routing peer that the route had so far. decisions: who carries a group, "" for nobody; of the others it is decided
    here, by what is connected."""

    routes: Mapping[str, Route] = {}
    resolutions: Mapping[str, Resolution] = {}
    peers: Mapping[str, Peer] = {}
    connected: frozenset[str] = frozenset()
    incumbents: Mapping[str, str] = {}
    decisions: Mapping[HaKey, str] = {}


class _Placed(msgspec.Struct, frozen=True, kw_only=True):
    """An HA group in use. routing_peer: None for an exit without one, which is installed as unreachable."""

    group: HaGroup
    prefixes: tuple[str, ...]
    routing_peer: Candidate | None


class _Given(msgspec.Struct, frozen=True):
    """What a group adds to the result. routing_peer: peer id, "" for none. won: prefixes that lead to this peer.
    routes: ids of the routes that it carries. reasons: route id → why the route is not installed as it is."""

    routing_peer: str
    won: tuple[str, ...]
    routes: tuple[str, ...]
    reasons: Mapping[str, str]


class Fib:
    """routes: prefix → entry. routing_peers: route id → id of its routing peer. allowed: peer id → routed prefixes.

    skipped: route id → why it is not installed as it is; an exit without a routing peer is here and unreachable. A
    value that `update` does not change stays the same object, save for `allowed`.

    A group that nobody carries, or without a connected routing peer, is withdrawn, unless a route of it has keep_route
    on (decision R2). An exit is never withdrawn into the open: it becomes unreachable. With an IPv4 exit and no IPv6
    one, IPv6 is unreachable (G8).
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._seen = Seen()
        self._offers = Offers(terms.me)
        self._choice = choice(terms.selection, ())
        self._placed: dict[HaKey, tuple[_Placed | None, Mapping[str, str]]] = {}
        self._given: dict[HaKey, _Given] = {}
        self._claims: dict[str, set[HaKey]] = {}
        self._owners: dict[str, HaKey] = {}
        self.routes: Mapping[str, RouteEntry] = {}
        self.routing_peers: Mapping[str, str] = {}
        self.skipped: Mapping[str, str] = {}
        self.allowed: dict[str, set[str]] = {}

    def routing_peer_of(self, prefix: str) -> str:
        """The id of the peer that the prefix leads to, "" for none."""
        return self._given[self._owners[prefix]].routing_peer if prefix in self._owners else ""

    def update(self, now: Seen) -> set[str]:
        """Compute what differs from the last time; gives the ids of the peers whose allowed prefixes may be others."""
        before, self._seen = self._seen, now
        dirty = self._offers.update(now.routes, now.peers)
        dirty |= self._offers.routed_by(before.connected ^ now.connected)
        others = changed(before.resolutions, now.resolutions)
        for route_id in changed(before.incumbents, now.incumbents):
            if now.incumbents.get(route_id) != self.routing_peers.get(route_id, ""):  # else it was chosen here
                others.add(route_id)
        dirty |= {ha_key(now.routes[route_id]) for route_id in others if route_id in now.routes}
        dirty |= changed(before.decisions, now.decisions)
        former, self._choice = self._choice, choice(self._terms.selection, self._offers.exits.values())
        for network_id in former.exits.keys() | self._choice.exits.keys():
            if former.uses(network_id) != self._choice.uses(network_id):
                dirty |= self._offers.of_network(network_id)
        return self._install({key: self._placing(key) for key in dirty})

    def _placing(self, key: HaKey) -> tuple[_Placed | None, Mapping[str, str]]:
        """The group as it goes into the table, None if it does not, and route id → why a route is not wholly in it."""
        group = self._offers.groups.get(key)
        reasons = dict.fromkeys(self._offers.without_policy(key), NO_POLICY)
        if group is None or not self._choice.uses(group.network_id):
            return None, reasons
        one, reason = self._place(group)
        return one, reasons | {route.route_id: reason for route in group.routes if reason}

    def _place(self, group: HaGroup) -> tuple[_Placed | None, str]:
        seen, overlay = self._seen, self._terms.overlay
        over_v6 = ":" in group.network
        known = [seen.peers[peer_id] for peer_id in group.routing_peers if peer_id in seen.peers]
        able = [peer.peer_id for peer in known if peer.address_v6 or not over_v6]
        routing_peer = self._carrier(group, able)
        if routing_peer is None:
            reason = f"{group.network} needs a routing peer with an IPv6 address in the overlay"
            return _closed(group) if overlay.ipv6 else None, reason
        route = next(route for route in group.routes if routing_peer.peer_id in route.routing_peers)
        found = destinations(route, seen.resolutions.get(route.route_id), overlay)
        if found.refused:
            return None, found.refused
        if not routing_peer.connected and not group.keep_route:
            return _closed(group), NOBODY_CONNECTED if seen.connected.isdisjoint(able) else NOBODY_USABLE
        has_v6 = seen.peers[routing_peer.peer_id].address_v6 != ""
        prefixes = tuple(str(network) for network in found.networks if network.version == 4 or has_v6)
        return _Placed(group=group, prefixes=prefixes, routing_peer=routing_peer), "" if prefixes else NO_ADDRESSES

    def _carrier(self, group: HaGroup, able: Collection[str]) -> Candidate | None:
        """The one that was decided on, whatever is connected; one that is not, to keep the route at, for nobody."""
        seen, incumbents = self._seen, self._seen.incumbents
        incumbent = next((incumbents[route.route_id] for route in group.routes if route.route_id in incumbents), None)
        decided = seen.decisions.get(group.key)
        if decided == "":
            return next_to(incumbent, candidates(group, able, ()))
        if decided in able:
            return next_to(decided, candidates(group, able, able))
        return choose(candidates(group, able, seen.connected), incumbent)

    def _install(self, placed: Mapping[HaKey, tuple[_Placed | None, Mapping[str, str]]]) -> set[str]:
        """One entry for each prefix: of several groups with one prefix, the one with the best routing peer gets it."""
        contested = self._claim(placed)
        affected = placed.keys() | {key for prefix in contested for key in self._claims.get(prefix, ())}
        former = [self._given.pop(key) for key in affected if key in self._given]
        given = {key: self._give(*self._placed[key]) for key in affected if key in self._placed}
        routing_peers: dict[str, str | None] = {}
        skipped: dict[str, str | None] = {}
        for one in former:
            self.allowed.get(one.routing_peer, set()).difference_update(one.won)
            routing_peers |= dict.fromkeys(one.routes)
            skipped |= dict.fromkeys(one.reasons)
        for one in given.values():
            self.allowed.setdefault(one.routing_peer, set()).update(one.won)
            routing_peers |= dict.fromkeys(one.routes, one.routing_peer)
            skipped |= one.reasons
        self._given |= given
        self.routing_peers, self.skipped = patched(self.routing_peers, routing_peers), patched(self.skipped, skipped)
        self.routes = patched(self.routes, {prefix: self._entry(prefix) for prefix in contested})
        self.routes = patched(self.routes, {V6_EXIT: self._entry(V6_EXIT)})
        return {one.routing_peer for one in (*former, *given.values()) if one.won}

    def _claim(self, placed: Mapping[HaKey, tuple[_Placed | None, Mapping[str, str]]]) -> set[str]:
        """Note the prefixes of these groups; gives those that one of the groups led or leads to."""
        contested = set[str]()
        for key, (one, reasons) in placed.items():
            former, _ = self._placed.pop(key, (None, {}))
            for prefix in former.prefixes if former else ():
                self._claims[prefix].discard(key)
                contested.add(prefix)
            for prefix in one.prefixes if one else ():
                self._claims.setdefault(prefix, set()).add(key)
                contested.add(prefix)
            if one is not None or reasons:
                self._placed[key] = one, reasons
        for prefix in contested:
            if self._claims[prefix]:
                self._owners[prefix] = min(self._claims[prefix], key=self._rank)
            else:
                del self._claims[prefix]
                self._owners.pop(prefix, None)
        return contested

    def _rank(self, key: HaKey) -> tuple[bool, bool, int, str, HaKey]:
        """Lowest first: which of several groups with the same prefix gets it."""
        one, _ = self._placed[key]
        routing_peer = one.routing_peer if one else None
        if routing_peer is None:
            return True, True, 0, "", key
        return False, not routing_peer.connected, routing_peer.metric, routing_peer.peer_id, key

    def _give(self, one: _Placed | None, reasons: Mapping[str, str]) -> _Given:
        if one is None:
            return _Given("", (), (), reasons)
        ids = tuple(route.route_id for route in one.group.routes)
        won = tuple(prefix for prefix in one.prefixes if self._owners[prefix] == one.group.key)
        if one.routing_peer is not None and (won or not one.prefixes):
            return _Given(one.routing_peer.peer_id, won, ids, reasons)
        if one.prefixes and not won:
            other, *_ = self._owners[one.prefixes[0]]
            reasons = {**reasons, **dict.fromkeys(ids, f"{one.prefixes[0]} is routed by network {other}")}
        return _Given("", won, (), reasons)

    def _entry(self, prefix: str) -> RouteEntry | None:
        """An exit for one family makes the other family's default unreachable where that is IPv6 and has none."""
        if prefix in self._owners:
            device = self._terms.interface if self.routing_peer_of(prefix) else ""
            return RouteEntry(prefix=prefix, device=device, unreachable=not device)
        if prefix == V6_EXIT and self._terms.ipv6 and V4_EXIT in self._owners:
            return RouteEntry(prefix=prefix, device="", unreachable=True)
        return None


def _closed(group: HaGroup) -> _Placed | None:
    """An exit without a routing peer, which stays and is unreachable (decision R2); None for any other group."""
    prefix = group.routes[0].prefix
    return _Placed(group=group, prefixes=(str(prefix),), routing_peer=None) if group.is_exit and prefix else None

"""The destinations a host forwards for, cut into disjoint pieces, and the permits of all routes that cover each."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.changes import patched
from services.agent.core.firewall.permits import Match, compiled
from services.agent.core.intervals import Network, Range, Version, merge, of, parse, subtract, text
from services.agent.core.kernel import NftChain, NftMap
from services.agent.core.pieces import Pieces
from services.agent.core.rule import Origin, Rule, digest_of

Kind: TypeAlias = Literal["drops", "permits"]

NOT_BEHIND_AN_EXIT: dict[Version, tuple[str, ...]] = {
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4"),
    6: ("fc00::/7", "fe80::/10", "ff00::/8"),
}
"""Private, shared, link-local and multicast destinations: an exit node's permits leave them out (decision G9)."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A route this host forwards for. distribution: groups whose members may use it, as far as its permits go.

    returned: what it leads to answers to a return address. learns: the forwarder finds out where its names lead.
    """

    route_id: str
    networks: tuple[Network, ...]
    masquerade: bool
    matches: tuple[Match, ...]
    distribution: tuple[str, ...] = ()
    returned: bool = False
    learns: bool = False


class Destinations:
    """The destinations of one family, kept up to date route by route.

    Maps lead from disjoint destinations to the rules of all routes that cover them (decision A5). Chains are named by
    what they hold: routes with equal permits share one, so that another such route is an element. Its rules then come
    from the permits of all of them; which routes cover a destination is kept with its element. Masquerading is decided
    by the longest prefix that covers a destination (decision G10); of equal prefixes one that wants it is enough:
    traffic then at least finds its way back.
    """

    def __init__(self, overlay: tuple[Network, ...], version: Version) -> None:
        self._overlay = overlay
        self._version = version
        self._pieces = Pieces[str]()
        self._served: dict[str, Served] = {}
        self._covering: Counter[frozenset[str]] = Counter()
        self._jumps: dict[frozenset[str], dict[Kind, tuple[str, tuple[Rule, ...]]]] = {}
        self.chains = Chains()
        self.permits: Mapping[str, str] = {}
        self.drops: Mapping[str, str] = {}
        self.routes: Mapping[str, frozenset[str]] = {}
        self.masqueraded: frozenset[str] = frozenset()

    def update(self, changes: Mapping[str, Served | None]) -> None:
        """Take changed routes over: route id → the route, None for one that this host no longer forwards for."""
        touched: dict[tuple[int, int], frozenset[str] | None] = {}
        before: dict[tuple[int, int], frozenset[str]] = {}
        for route_id, now in changes.items():
            former = self._served.get(route_id)
            for change, one in ((self._pieces.remove, former), (self._pieces.add, now)):
                for covered in self._ranges(one):
                    gone, came = change(covered, route_id)
                    for first, last, labels in gone:
                        if (first, last) not in touched:
                            before[first, last] = labels
                        touched[first, last] = None
                    touched |= {(first, last): labels for first, last, labels in came}
        for labels in before.values():
            self._leave(labels)
        for route_id, now in changes.items():
            if now is None:
                self._served.pop(route_id, None)
            else:
                self._served[route_id] = now
        for routes in touched.values():
            if routes is not None:
                self._enter(routes)
        self._show({text(Range(*ends), self._version): labels for ends, labels in touched.items()})

    def _ranges(self, one: Served | None) -> list[Range]:
        networks = one.networks if one is not None else ()
        return merge(
            piece
            for network in networks
            if network.version == self._version
            for piece in _covered(network, self._overlay)
        )

    def _enter(self, routes: frozenset[str]) -> None:
        """One more destination is covered by these routes."""
        self._covering[routes] += 1
        if routes not in self._jumps:
            found = compiled((match for one in routes for match in self._served[one].matches), self._version)
            said: dict[Kind, tuple[Rule, ...]] = {"drops": found.drops, "permits": found.accepts}
            self._jumps[routes] = {kind: (self.chains.add(kind, rules), rules) for kind, rules in said.items() if rules}

    def _leave(self, routes: frozenset[str]) -> None:
        self._covering[routes] -= 1
        if not self._covering[routes]:
            del self._covering[routes]
            for name, rules in self._jumps.pop(routes).values():
                self.chains.remove(name, rules)

    def _show(self, touched: Mapping[str, frozenset[str] | None]) -> None:
        """Change the elements of these destinations: key text → the routes that cover it now."""
        jumps = {key: self._jumps[routes] if routes else {} for key, routes in touched.items()}
        self.permits = patched(self.permits, {key: _jump(found.get("permits")) for key, found in jumps.items()})
        self.drops = patched(self.drops, {key: _jump(found.get("drops")) for key, found in jumps.items()})
        self.routes = patched(self.routes, touched)
        wanted = {key for key, routes in touched.items() if routes and self._masquerades(routes)}
        if wanted != self.masqueraded & touched.keys():
            self.masqueraded = (self.masqueraded - touched.keys()) | wanted

    def _masquerades(self, routes: frozenset[str]) -> bool:
        return max((self._length(self._served[one]), self._served[one].masquerade) for one in routes)[1]

    def _length(self, one: Served) -> int:
        return next(network.prefixlen for network in one.networks if network.version == self._version)

    def maps(self) -> tuple[NftMap, ...]:
        """drops and permits."""
        found: dict[Kind, Mapping[str, str]] = {"drops": self.drops, "permits": self.permits}
        return tuple(
            NftMap(
                name=map_name(kind, self._version),
                type=f"ipv{self._version}_addr",
                interval=True,
                elements=elements,
                routes={key: self.routes[key] for key in elements},
            )
            for kind, elements in found.items()
        )


def _jump(chain: tuple[str, tuple[Rule, ...]] | None) -> str | None:
    return f"jump {chain[0]}" if chain is not None else None


class Chains:
    """Chains by name; equal rules of different origins are one rule of all of them. made: all of them."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._origins: dict[str, list[Counter[Origin]]] = {}
        self.made: dict[str, NftChain] = {}

    def add(self, kind: Kind, rules: tuple[Rule, ...]) -> str:
        """The name of the chain with these rules."""
        name = f"{kind}_{digest_of(rules)}"
        if not self._users[name]:
            self.made[name] = NftChain(name=name, rules=rules)
            self._origins[name] = [Counter() for _ in rules]
        self._users[name] += 1
        more = []
        for origins, rule in zip(self._origins[name], rules, strict=True):
            more.append(frozenset(origin for origin in rule.origins if not origins[origin]))
            origins.update(rule.origins)
        self._change(name, [rule.origins | came for rule, came in zip(self.made[name].rules, more, strict=True)])
        return name

    def remove(self, name: str, rules: tuple[Rule, ...]) -> None:
        """These rules have no use for the chain any more."""
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name], self._origins[name], self.made[name]
            return
        fewer = []
        for origins, rule in zip(self._origins[name], rules, strict=True):
            origins.subtract(rule.origins)
            fewer.append(frozenset(origin for origin in rule.origins if not origins[origin]))
            for origin in fewer[-1]:
                del origins[origin]
        self._change(name, [rule.origins - gone for rule, gone in zip(self.made[name].rules, fewer, strict=True)])

    def _change(self, name: str, origins: list[frozenset[Origin]]) -> None:
        rules = self.made[name].rules
        if [rule.origins for rule in rules] != origins:
            changed = tuple(replace(rule, origins=now) for rule, now in zip(rules, origins, strict=True))
            self.made[name] = NftChain(name=name, rules=changed)


def map_name(kind: Kind, version: Version) -> str:
    return f"{kind}_v{version}"


def _covered(network: Network, overlay: tuple[Network, ...]) -> list[Range]:
    """The addresses that a route to the prefix covers: not the overlay's, which need no route; see G9 for exits."""
    version: Version = 4 if network.version == 4 else 6
    holes = [other for other in overlay if other.version == version and other.overlaps(network)]
    if not network.prefixlen:
        holes += [parse(hole) for hole in NOT_BEHIND_AN_EXIT[version]]
    return subtract([of(network)], map(of, holes)) if holes else [of(network)]

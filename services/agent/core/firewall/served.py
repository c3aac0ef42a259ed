"""What a host forwards for: destinations cut into disjoint pieces, and the permits of all routes that cover each."""

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from services.agent.core.firewall.permits import Match, compiled
from services.agent.core.firewall.rule import Rule, digest_of
from services.agent.core.intervals import Network, Range, Version, of, parse, partition, subtract, text
from services.agent.core.kernel import NftChain, NftMap

NOT_BEHIND_AN_EXIT: dict[Version, tuple[str, ...]] = {
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4"),
    6: ("fc00::/7", "fe80::/10", "ff00::/8"),
}
"""Private, shared, link-local and multicast destinations: an exit node's permits leave them out (decision G9)."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A route this host forwards for."""

    route_id: str
    networks: tuple[Network, ...]
    masquerade: bool
    matches: tuple[Match, ...]


def dispatch(
    served: tuple[Served, ...], overlay: tuple[Network, ...], version: Version
) -> tuple[tuple[NftMap, ...], tuple[NftChain, ...]]:
    """Maps from disjoint destinations to the rules of all routes that cover them (decision A5), and those rules.

    Chains are named by what they hold: routes with equal permits share one, so that another such route is an element.
    Its rules then come from the permits of all of them; which routes cover a destination is kept with its element.
    """
    matches = {route.route_id: route.matches for route in served}
    covered = [
        (piece, route.route_id)
        for route in served
        for network in route.networks
        if network.version == version
        for piece in _covered(network, overlay)
    ]
    chains = _Chains()
    jumps: dict[frozenset[str], dict[str, str]] = {}
    maps: dict[str, dict[str, str]] = {"drops": {}, "permits": {}}
    covering: dict[str, frozenset[str]] = {}
    for piece, routes in partition(covered):
        if routes not in jumps:
            found = compiled((match for route_id in routes for match in matches[route_id]), version)
            said = {"drops": found.drops, "permits": found.accepts}
            jumps[routes] = {kind: f"jump {chains.add(kind, rules)}" for kind, rules in said.items() if rules}
        key = text(piece, version)
        covering[key] = routes
        for kind, jump in jumps[routes].items():
            maps[kind][key] = jump
    return (
        tuple(
            NftMap(
                name=map_name(kind, version),
                type=f"ipv{version}_addr",
                interval=True,
                elements=tuple(sorted(elements.items())),
                routes={key: covering[key] for key in elements},
            )
            for kind, elements in maps.items()
        ),
        chains.made(),
    )


class _Chains:
    """Chains by name; equal rules of different origins are one rule of all of them."""

    def __init__(self) -> None:
        self._alike: dict[str, list[tuple[Rule, ...]]] = {}

    def add(self, kind: str, rules: tuple[Rule, ...]) -> str:
        """The name of the chain with these rules."""
        name = f"{kind}_{digest_of(rules)}"
        self._alike.setdefault(name, []).append(rules)
        return name

    def made(self) -> tuple[NftChain, ...]:
        return tuple(
            NftChain(name=name, rules=alike[0] if len(alike) == 1 else tuple(map(_of_all, *alike)))
            for name, alike in self._alike.items()
        )


def _of_all(*alike: Rule) -> Rule:
    return replace(alike[0], origins=frozenset().union(*(rule.origins for rule in alike)))


def map_name(kind: str, version: Version) -> str:
    return f"{kind}_v{version}"


def claims(
    served: tuple[Served, ...], overlay: tuple[Network, ...], version: Version
) -> Iterable[tuple[Range, int, bool, str]]:
    for route in served:
        for network in route.networks:
            if network.version == version:
                for piece in _covered(network, overlay):
                    yield piece, network.prefixlen, route.masquerade, route.route_id


def _covered(network: Network, overlay: tuple[Network, ...]) -> list[Range]:
    """What a route to the prefix covers: never the overlay, whose peers are reached directly; see G9 for exit nodes."""
    version: Version = 4 if network.version == 4 else 6
    holes = [other for other in overlay if other.version == version and other.overlaps(network)]
    if not network.prefixlen:
        holes += [parse(hole) for hole in NOT_BEHIND_AN_EXIT[version]]
    return subtract([of(network)], map(of, holes)) if holes else [of(network)]

"""Table `inet whimbrel`: who may reach this host and what lies behind it, and how far a change of it reaches.

Everything from the tunnel that nothing permits is dropped, with or without documents. Withdrawn permits also end
connections that are under way: only replies and related packets pass without one.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from services.agent.core.firewall.closing import FORWARD, INPUT, closed_rules, closed_sets, is_closed_set
from services.agent.core.firewall.nat import clamp, masquerade_set, postrouting
from services.agent.core.firewall.permits import VERSIONS, Compiled, Match, compiled, source_sets
from services.agent.core.firewall.underlay import marked, never_inside, never_spoofed
from services.agent.core.intervals import Network, Range, Version, is_last, of, parse, partition, read, subtract, text
from services.agent.core.kernel import NftChain, NftMap, ObservedRuleset, Ruleset, SetOrMap
from shared.events.documents import PeerDoc

NOT_BEHIND_AN_EXIT: dict[Version, tuple[str, ...]] = {
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4"),
    6: ("fc00::/7", "fe80::/10", "ff00::/8"),
}
"""Private, shared, link-local and multicast destinations: an exit node's permits leave them out (decision G9)."""

_REPLIES = ("ct state related accept", "ct direction reply ct state established accept")
_DADDR: dict[Version, str] = {4: "ip daddr", 6: "ip6 daddr"}


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A route this host forwards for."""

    route_id: str
    networks: tuple[Network, ...]
    masquerade: bool
    matches: tuple[Match, ...]


class Replace(msgspec.Struct, frozen=True, tag=True):
    """Write the whole table in one transaction."""

    ruleset: Ruleset


class Elements(msgspec.Struct, frozen=True, tag=True):
    """Change elements of sets and maps in one transaction: set or map name → element texts as in ObservedRuleset.

    ruleset: the whole table that is wanted. anew: sets and maps to empty first, name → which of the two it is; `add`
    has all that they shall hold.
    """

    add: Mapping[str, frozenset[str]]
    remove: Mapping[str, frozenset[str]]
    shape: str
    ruleset: Ruleset
    anew: Mapping[str, SetOrMap] = {}


def ruleset(
    *,
    interface: str,
    mtu: int,
    listen_port: int,
    overlay: Iterable[Network],
    inputs: Iterable[Match],
    served: Iterable[Served],
    peers: Mapping[str, PeerDoc],
) -> Ruleset:
    """The table. Two filter chains (decision A8): peer rules on input, route permits on forward.

    listen_port: WireGuard's. overlay: its prefixes, which no route's permits cover. inputs: what peer rules say of
    traffic to this host.
    """
    inputs, served, overlay = tuple(inputs), tuple(served), tuple(overlay)
    dispatch = [_dispatch(served, overlay, version) for version in VERSIONS]
    selectors = [match.sources for match in (*inputs, *(match for route in served for match in route.matches))]
    masquerade = [masquerade_set(_claims(served, overlay, version), version) for version in VERSIONS]
    chains = [
        NftChain(
            name="input",
            hook="type filter hook input priority 0; policy accept;",
            rules=(never_inside(interface, listen_port), f'iifname "{interface}" jump {INPUT}'),
        ),
        _input(inputs),
        NftChain(
            name="forward",
            hook="type filter hook forward priority 0; policy accept;",
            rules=(f'iifname "{interface}" jump {FORWARD}', *never_spoofed(interface, overlay)),
        ),
        _forward(),
        *marked(interface, listen_port),
        clamp(interface, mtu),
        postrouting(interface),
        *{chain.name: chain for _, chains in dispatch for chain in chains}.values(),
    ]
    return Ruleset(
        sets=tuple(sorted((*closed_sets(), *source_sets(selectors, peers), *masquerade), key=lambda one: one.name)),
        maps=tuple(sorted((one for maps, _ in dispatch for one in maps), key=lambda one: one.name)),
        chains=tuple(sorted(chains, key=lambda one: one.name)),
    )


def shape(ruleset: Ruleset) -> str:
    """A fingerprint of everything but the elements of sets and maps, and after a dash one of chain INPUT alone."""
    parts = [
        [[one.name, one.type, one.interval] for one in ruleset.sets],
        [[one.name, one.type, one.interval] for one in ruleset.maps],
        [[chain.name, chain.hook, chain.rules] for chain in ruleset.chains],
    ]
    return f"{_digest(parts)}-{_digest([chain.rules for chain in ruleset.chains if chain.name == INPUT])}"


def same_input(one: str, other: str) -> bool:
    """Whether tables of the two shapes have the same rules for traffic to this host."""
    return one.partition("-")[2] == other.partition("-")[2]


def elements(ruleset: Ruleset) -> dict[str, frozenset[str]]:
    """Set or map name → element texts, for a map "key : verdict"."""
    return {one.name: one.elements for one in ruleset.sets} | {
        one.name: frozenset(f"{key} : {verdict}" for key, verdict in one.elements) for one in ruleset.maps
    }


def change(desired: Ruleset, observed: ObservedRuleset, *, anew: bool = False) -> Replace | Elements | None:
    """What makes the observed table the desired one, None when it is.

    anew: write every set and map that differs as a whole. What is closed (core/firewall/closing.py) opens only in a
    change of its own, once nothing else differs.
    """
    fingerprint = shape(desired)
    if observed.shape != fingerprint:
        return Replace(desired)
    maps = {one.name for one in desired.maps}
    intervals = {one.name for one in desired.sets if one.interval} | {one.name for one in desired.maps if one.interval}
    differing = {
        name: (wanted, found)
        for name, wanted in elements(desired).items()
        if wanted != (found := observed.elements.get(name, frozenset()))
    }
    if not differing:
        return None
    add, remove, whole = {}, {}, dict[str, SetOrMap]()
    for name in [name for name in differing if not is_closed_set(name)] or differing:
        wanted, found = differing[name]
        if anew or (name in intervals and any(map(_stays, found - wanted))):
            whole[name] = "map" if name in maps else "set"
            add[name] = wanted
            continue
        if wanted - found:
            add[name] = wanted - found
        if found - wanted:
            remove[name] = found - wanted
    return Elements(add, remove, fingerprint, desired, whole)


def _stays(element: str) -> bool:
    """Whether nft 1.0.6 cannot remove it by itself: of one that holds the family's last address it only says that it
    has, and over the one that stands for every address it ends the process."""
    key = element.partition(" : ")[0]
    version: Version = 6 if ":" in key else 4
    return is_last(read(key, version), version)


def _digest(parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _input(matches: Iterable[Match]) -> NftChain:
    matches = tuple(matches)
    families = [compiled(matches, version) for version in VERSIONS]
    drops = [rule for family in families for rule in family.drops]
    accepts = [rule for family in families for rule in family.accepts]
    rules = (*closed_rules("input"), *drops, *_REPLIES, *accepts, "drop")
    return NftChain(name=INPUT, hook="", rules=rules)


def _forward() -> NftChain:
    # Jumps and not gotos: where the permits of a destination end, the last rule here drops.
    drops = [f"{_DADDR[version]} vmap @{_map_name('drops', version)}" for version in VERSIONS]
    accepts = [f"{_DADDR[version]} vmap @{_map_name('permits', version)}" for version in VERSIONS]
    rules = (*closed_rules("forward"), *drops, *_REPLIES, *accepts, "drop")
    return NftChain(name=FORWARD, hook="", rules=rules)


def _dispatch(
    served: tuple[Served, ...], overlay: tuple[Network, ...], version: Version
) -> tuple[tuple[NftMap, ...], tuple[NftChain, ...]]:
    """Maps from disjoint destinations to the rules of all routes that cover them (decision A5), and those rules.

    Chains are named by what they hold: routes with equal permits share one, so that another such route is an element.
    """
    matches = {route.route_id: route.matches for route in served}
    covered = [
        (piece, route.route_id)
        for route in served
        for network in route.networks
        if network.version == version
        for piece in _covered(network, overlay)
    ]
    rules: dict[frozenset[str], Compiled] = {}
    maps: dict[str, dict[str, str]] = {"drops": {}, "permits": {}}
    chains: dict[str, NftChain] = {}
    for piece, routes in partition(covered):
        if routes not in rules:
            rules[routes] = compiled((match for route_id in routes for match in matches[route_id]), version)
        for kind, texts in (("drops", rules[routes].drops), ("permits", rules[routes].accepts)):
            if texts:
                chain = _chain(kind, texts)
                chains[chain.name] = chain
                maps[kind][text(piece, version)] = f"jump {chain.name}"
    return (
        tuple(
            NftMap(
                name=_map_name(kind, version),
                type=f"ipv{version}_addr",
                interval=True,
                elements=tuple(sorted(found.items())),
            )
            for kind, found in maps.items()
        ),
        tuple(chains.values()),
    )


def _chain(kind: str, rules: tuple[str, ...]) -> NftChain:
    digest = hashlib.sha256("\n".join(rules).encode()).hexdigest()[:16]
    return NftChain(name=f"{kind}_{digest}", hook="", rules=rules)


def _map_name(kind: str, version: Version) -> str:
    return f"{kind}_v{version}"


def _claims(
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

"""Table `inet whimbrel`: it filters packets from the tunnel to this host and through it; and the smallest change of it.

Everything from the tunnel that nothing permits is dropped, with or without documents. Withdrawn permits also end
connections that are under way: only replies and related packets pass without one.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from services.agent.core.changes import changed
from services.agent.core.firewall.closing import FORWARD, INPUT, closed_rules, closed_sets, is_closed_set
from services.agent.core.firewall.gate import held, held_sets
from services.agent.core.firewall.learned import (
    asking,
    learned_rules,
    learned_sets,
    learning,
    let_in,
    redirected,
)
from services.agent.core.firewall.nat import clamp, masquerade_set, postrouting, strays
from services.agent.core.firewall.permits import VERSIONS, Match, Selector, compiled
from services.agent.core.firewall.probes import ANSWERS, clients, questions
from services.agent.core.firewall.returned import returned
from services.agent.core.firewall.served import Destinations, Served, map_name
from services.agent.core.firewall.sources import Sources
from services.agent.core.firewall.underlay import marked, never_inside, never_spoofed
from services.agent.core.intervals import Network, Version, is_last, read
from services.agent.core.kernel import (
    FORWARDER_PORT,
    Hook,
    NftChain,
    NftMap,
    ObservedRuleset,
    Ruleset,
    SetOrMap,
)
from services.agent.core.parsed import Peer
from services.agent.core.rule import Connection, Dispatch, Interface, Jump, Rule, digest, said

_REPLIES = (Rule((Connection("related"),), "accept"), Rule((Connection("reply"),), "accept"))
_REST = Rule((), "drop")
_name = attrgetter("name")


class Replace(msgspec.Struct, frozen=True, tag=True):
    """Write the whole table in one transaction."""

    ruleset: Ruleset


class Elements(msgspec.Struct, frozen=True, tag=True):
    """Change elements of sets and maps in one transaction: set or map name → element texts as in ObservedRuleset.

    ruleset: the whole desired table. anew: sets and maps to empty first, name → which of the two it is; `add`
    has all that they shall hold.
    """

    add: Mapping[str, frozenset[str]]
    remove: Mapping[str, frozenset[str]]
    shape: str
    ruleset: Ruleset
    anew: Mapping[str, SetOrMap] = {}


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """The host's own values that the table contains. listen_port: WireGuard's. overlay: no route's permits cover it.

    forwarder_port: where clients ask for names.
    """

    interface: str
    mtu: int
    listen_port: int
    overlay: tuple[Network, ...]
    forwarder_port: int = FORWARDER_PORT


class Table:
    """The table, kept up to date. Two filter chains (decision A8): peer rules on input, route permits on forward."""

    def __init__(self, around: Around) -> None:
        self._fixed = _fixed(around)
        self._sources = Sources()
        self._dispatch = tuple((version, Destinations(around.overlay, version)) for version in VERSIONS)
        self._inputs: Mapping[str, tuple[Match, ...]] = {}
        self._served: Mapping[str, Served] = {}
        self._peers: Mapping[str, Peer] = {}
        self._withdrawn: Collection[str] = ()
        self._clients: tuple[Selector, ...] = ()
        self._input = _input((), {}, ())
        self._around = around
        self._of_routes: tuple[NftChain, ...] = _of_routes(around, ())
        self._learning: tuple[Served, ...] = ()
        self._maps: tuple[NftMap, ...] = ()
        self._ruleset: Ruleset | None = None

    def update(
        self,
        inputs: Mapping[str, tuple[Match, ...]],
        served: Mapping[str, Served],
        peers: Mapping[str, Peer],
        withdrawn: Collection[str] = (),
    ) -> Ruleset:
        """The table now. inputs: what peer rules say of traffic to this host, by rule id; served: by route id.

        withdrawn: ids of the routes that this host does not carry by its own word.
        """
        interface = self._around.interface
        same = inputs is self._inputs and served is self._served and peers is self._peers
        if self._ruleset is not None and same and withdrawn == self._withdrawn:
            return self._ruleset
        rules = changed(self._inputs, inputs)
        routes = {route_id: served.get(route_id) for route_id in changed(self._served, served)}
        before = [*_said(self._inputs, rules), *_permits(self._served, routes)]
        now = [*_said(inputs, rules), *_permits(served, routes)]
        former = self._clients
        if routes or withdrawn != self._withdrawn or not self._clients:
            self._learning = learning(served.values())
            self._clients = (*clients(served, withdrawn), *asking(self._learning))
        self._inputs, self._served, self._peers, self._withdrawn = inputs, served, peers, withdrawn
        self._sources.update(
            peers, [*former, *(one.sources for one in before)], [*self._clients, *(one.sources for one in now)]
        )
        if rules or routes:
            self._input = _input((match for said in inputs.values() for match in said), served, self._learning)
        if routes:
            self._of_routes = (*_of_routes(self._around, self._learning), *returned(interface, served.values()))
        if routes or not self._maps:
            for _, dispatch in self._dispatch:
                dispatch.update(routes)
            self._maps = tuple(sorted((one for _, held in self._dispatch for one in held.maps()), key=_name))
        self._ruleset = self._composed()
        return self._ruleset

    def _composed(self) -> Ruleset:
        masquerade = (masquerade_set(dispatch.masqueraded, version) for version, dispatch in self._dispatch)
        learned = learned_sets(self._learning)
        sets = (*closed_sets(), *held_sets(), *self._sources.sets.values(), *masquerade, *learned)
        permits = (chain for _, dispatch in self._dispatch for chain in dispatch.chains.made.values())
        return Ruleset(
            sets=tuple(sorted(sets, key=_name)),
            maps=self._maps,
            chains=tuple(sorted((*self._fixed, *self._of_routes, self._input, *permits), key=_name)),
        )


def _fixed(around: Around) -> tuple[NftChain, ...]:
    """The chains that depend on no document but the settings."""
    interface, listen_port = around.interface, around.listen_port
    return (
        NftChain(
            name="input",
            hook=Hook("filter", "input", 0),
            rules=(never_inside(interface, listen_port), Rule((Interface("in", interface),), Jump(INPUT))),
        ),
        NftChain(
            name="forward",
            hook=Hook("filter", "forward", 0),
            rules=(Rule((Interface("in", interface),), Jump(FORWARD)), *never_spoofed(interface, around.overlay)),
        ),
        *marked(interface, listen_port),
        held(interface),
        clamp(interface, around.mtu),
    )


def _of_routes(around: Around, learning: tuple[Served, ...]) -> tuple[NftChain, ...]:
    """The chains that have rules for each route whose names the forwarder answers for."""
    interface = around.interface
    return (
        _forward(learning),
        strays(interface, learning),
        postrouting(interface, learning),
        *redirected(interface, around.forwarder_port, learning),
    )


def _said(inputs: Mapping[str, tuple[Match, ...]], ids: Iterable[str]) -> Iterable[Match]:
    return (match for id in ids for match in inputs.get(id, ()))


def _permits(served: Mapping[str, Served], ids: Iterable[str]) -> Iterable[Match]:
    return (match for id in ids if id in served for match in served[id].matches)


def shape(ruleset: Ruleset) -> str:
    """A fingerprint of everything but the elements of sets and maps, after a dash one of chain INPUT alone, and after
    another one that of chain FORWARD."""
    parts = [
        [[one.name, one.type, one.interval, one.dynamic] for one in ruleset.sets],
        [[one.name, one.type, one.interval] for one in ruleset.maps],
        [[chain.name, chain.hook, said(chain.rules)] for chain in ruleset.chains],
    ]
    alone = [_digest([said(chain.rules) for chain in ruleset.chains if chain.name == one]) for one in (INPUT, FORWARD)]
    return "-".join((_digest(parts), *alone))


def same_input(one: str, other: str) -> bool:
    """Whether tables of the two shapes have the same rules for traffic to this host."""
    return one.split("-")[1:2] == other.split("-")[1:2]


def same_forward(one: str, other: str) -> bool:
    """Whether they have the same rules for learned addresses: all others lead to maps, whose elements tell."""
    return one.split("-")[2:] == other.split("-")[2:]


def elements(ruleset: Ruleset) -> dict[str, frozenset[str]]:
    """Set or map name → element texts, for a map "key : verdict"; dynamic sets are left out."""
    return {one.name: one.elements for one in ruleset.sets if not one.dynamic} | {
        one.name: frozenset(f"{key} : {verdict}" for key, verdict in one.elements.items()) for one in ruleset.maps
    }


def holding(ruleset: Ruleset, elements: Mapping[str, Iterable[str]]) -> Ruleset:
    """The table with other elements: set or map name → element texts as `elements` gives them; none when absent.

    The elements of dynamic sets may be given as well; only the filler of a set knows them.
    """
    return Ruleset(
        sets=tuple(replace(one, elements=frozenset(elements.get(one.name, ()))) for one in ruleset.sets),
        maps=tuple(replace(one, elements=_pairs(elements.get(one.name, ()))) for one in ruleset.maps),
        chains=ruleset.chains,
    )


def _pairs(elements: Iterable[str]) -> dict[str, str]:
    split = (element.partition(" : ") for element in sorted(elements))
    return {key: verdict for key, _, verdict in split}


def change(desired: Ruleset, observed: ObservedRuleset, *, anew: bool = False) -> Replace | Elements | None:
    """The change that makes the observed table the desired one, None when both are equal.

    anew: write every set and map that differs as a whole. Closed sets (core/firewall/closing.py) are emptied in a
    change of their own, once nothing else differs.
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
    """Whether nft 1.0.6 cannot remove this element by itself: if it holds the family's last address, nft reports a
    removal that it did not make; if it stands for every address, nft ends the process."""
    key = element.partition(" : ")[0]
    version: Version = 6 if ":" in key else 4
    return is_last(read(key, version), version)


def _digest(parts: object) -> str:
    return digest(msgspec.json.encode(parts))


def _input(matches: Iterable[Match], served: Mapping[str, Served], learning: tuple[Served, ...]) -> NftChain:
    matches = tuple(matches)
    families = [compiled(matches, version) for version in VERSIONS]
    drops = [rule for family in families for rule in family.drops]
    accepts = [rule for family in families for rule in family.accepts]
    probes = (*questions(served), ANSWERS, *let_in(learning))
    return NftChain(name=INPUT, rules=(*closed_rules("input"), *probes, *drops, *_REPLIES, *accepts, _REST))


def _forward(learning: tuple[Served, ...]) -> NftChain:
    # Jumps and not gotos: where the permits of a destination end, the last rule here drops.
    drops = [Rule((), Dispatch(version, map_name("drops", version))) for version in VERSIONS]
    accepts = [Rule((), Dispatch(version, map_name("permits", version))) for version in VERSIONS]
    dropped, accepted = learned_rules(learning)
    drops, accepts = [*drops, *dropped], [*accepts, *accepted]
    return NftChain(name=FORWARD, rules=(*closed_rules("forward"), *drops, *_REPLIES, *accepts, _REST))

"""What the forwarder learns of names: each domain route has sets of its own, filled before clients hear of it.

Permits ask for the route's set and for the permit's own sources, so that two names on one address stay apart, whoever
else may go there for another name's sake (decision A6). How many such routes there are costs packets to learned
addresses alone, 8 ns for each route and family: what leads to prefixes is decided before.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from services.agent.core.firewall.permits import VERSIONS, Selector, compiled, set_name
from services.agent.core.firewall.served import Served
from services.agent.core.intervals import Range, Version
from services.agent.core.kernel import FORWARDER_PORT, Hook, NftChain, NftSet
from services.agent.core.rule import (
    Condition,
    Connection,
    Decided,
    Interface,
    Local,
    Member,
    Origin,
    Ports,
    Redirect,
    Rule,
    digest,
)

ASKING = "asking"
"""Title of the set of those who may ask this host for names."""

_PROTOCOLS: tuple[Literal["udp", "tcp"], ...] = ("udp", "tcp")
_ENDS: tuple[tuple[Literal["stray", "invalid"], Decided], ...] = (("stray", "reset"), ("invalid", "drop"))


def learned_name(route_id: str, version: Version) -> str:
    """Of the set of a route's addresses, which outlives any change of the route but its end."""
    return f"learned_{digest(route_id.encode())}_v{version}"


def learning(served: Iterable[Served]) -> tuple[Served, ...]:
    """The routes whose addresses the forwarder finds out, sorted."""
    return tuple(sorted((one for one in served if one.learns), key=lambda one: one.route_id))


def learned_sets(routes: Iterable[Served]) -> Iterator[NftSet]:
    """The sets of learning routes, which are filled by the forwarder's part of the agent."""
    for one in routes:
        for version in VERSIONS:
            yield NftSet(
                name=learned_name(one.route_id, version), type=f"ipv{version}_addr", interval=False, dynamic=True
            )


def learned_rules(routes: Iterable[Served]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """What permits of learning routes drop, and what they accept."""
    drops, accepts = list[Rule](), list[Rule]()
    for one in routes:
        for version in VERSIONS:
            there = Member(version, "destination", learned_name(one.route_id, version))
            found = compiled(one.matches, version)
            for kept, rules in ((drops, found.drops), (accepts, found.accepts)):
                kept += (Rule((there, *rule.conditions), rule.verdict, rule.origins) for rule in rules)
    return tuple(drops), tuple(accepts)


def asking(routes: Collection[Served]) -> tuple[Selector, ...]:
    """Whom learning routes are distributed to; () without one."""
    groups = tuple(sorted({group for one in routes for group in one.distribution}))
    return (Selector(groups=groups, peers=(), title=ASKING),) if routes else ()


def let_in(routes: Collection[Served]) -> tuple[Rule, ...]:
    """The rules that let their questions in, whatever policies say."""
    origins = frozenset(Origin(route=one.route_id) for one in routes)
    return tuple(
        Rule((_asks(version), Ports(protocol, (Range(FORWARDER_PORT, FORWARDER_PORT),))), "accept", origins)
        for version in (VERSIONS if routes else ())
        for protocol in _PROTOCOLS
    )


def redirected(interface: str, port: int, routes: Collection[Served]) -> tuple[NftChain, ...]:
    """What leads questions from the port that clients of a mixed account use to the forwarder (decision D1)."""
    if not routes or port == FORWARDER_PORT:
        return ()
    inwards = Interface("in", interface)
    return (
        NftChain(
            name="questions",
            hook=Hook("nat", "prerouting", -100),
            rules=tuple(
                Rule(
                    (inwards, _asks(version), Ports(protocol, (Range(port, port),)), Local()), Redirect(FORWARDER_PORT)
                )
                for version in VERSIONS
                for protocol in _PROTOCOLS
            ),
        ),
    )


def masquerading(leaving: tuple[Condition, ...], routes: Iterable[Served]) -> tuple[Rule, ...]:
    """Who gets this host's address on the way to learned addresses, whatever prefixes say of them (decision G10)."""
    return tuple(
        Rule((*leaving, there), "masquerade" if masquerade else "accept") for there, masquerade in _translated(routes)
    )


def without_strays(leaving: tuple[Condition, ...], routes: Iterable[Served]) -> tuple[Rule, ...]:
    """What ends connections to learned addresses that cannot be masqueraded any more, as `nat.strays` does."""
    return tuple(
        Rule((*leaving, Connection(state), there), verdict if masquerade else "accept")
        for there, masquerade in _translated(routes)
        for state, verdict in _ENDS
    )


def _translated(routes: Iterable[Served]) -> Iterator[tuple[Member, bool]]:
    """Of routes that lead to one address it is enough that one wants it: traffic then finds its way back."""
    for one in sorted(routes, key=lambda one: not one.masquerade):
        for version in VERSIONS:
            yield Member(version, "destination", learned_name(one.route_id, version)), one.masquerade


def _asks(version: Version) -> Member:
    return Member(version, "source", set_name(ASKING, version))

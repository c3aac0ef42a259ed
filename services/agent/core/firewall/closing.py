"""How the agent shuts withdrawn permits when nftables takes a table neither in part nor as a whole.

Each table has closed sets, which are empty as long as nftables takes the table. The chains for traffic from the tunnel
drop packets from or to their members before they ask any other rule. So a change that only fills closed sets permits
no packet that the table denied before.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec.structs import replace

from services.agent.core.intervals import Range, Version, merge, partition, read, text, whole
from services.agent.core.kernel import NftSet, ObservedRuleset, Ruleset
from services.agent.core.rule import Field, Member, Rule

INPUT, FORWARD = "input_overlay", "forward_overlay"
"""The chains that decide about traffic from the tunnel: to this host, and through it."""

_VERSIONS: tuple[Version, Version] = (4, 6)
_TO, _FROM, _INPUT = "closed_to", "closed_from", "closed_input"
"""Closed sets: destinations behind this host, sources of forwarded packets, and sources of packets to this host."""


def closed_sets() -> tuple[NftSet, ...]:
    """The sets, empty as they shall be."""
    return tuple(
        NftSet(name=f"{kind}_v{version}", type=f"ipv{version}_addr", interval=True, elements=frozenset())
        for kind in (_TO, _FROM, _INPUT)
        for version in _VERSIONS
    )


def is_closed_set(name: str) -> bool:
    return name.startswith("closed_")


def closed_rules(chain: Literal["input", "forward"]) -> tuple[Rule, ...]:
    """The rules that a filter chain begins with: drop packets from and to members of the closed sets."""
    what: tuple[tuple[Field, str], ...] = (("source", _FROM), ("destination", _TO))
    if chain == "input":
        what = (("source", _INPUT),)
    return tuple(
        Rule((Member(version, field, f"{kind}_v{version}"),), "drop") for field, kind in what for version in _VERSIONS
    )


def closing(
    desired: Ruleset, observed: ObservedRuleset, input_changed: bool, forward_changed: bool
) -> dict[str, frozenset[str]]:
    """Closed set → the elements it needs, so that the observed table permits nothing that the desired one denies.

    A destination is shut when what is permitted there changes, a source when it leaves a set or comes into one whose
    members are dropped, and all input when its rules change: wider than needed, and for as long as the fault lasts.
    So is all that is forwarded when rules for learned addresses change, which nobody here knows.
    """
    shut: dict[str, frozenset[str]] = {}
    for version in _VERSIONS:
        to, sources = _destinations(desired, observed, version), _sources(desired, observed, version)
        found = {
            _TO: to,
            _FROM: [whole(version)] if forward_changed else sources,
            _INPUT: [whole(version)] if input_changed else sources,
        }
        for kind, pieces in found.items():
            shut[f"{kind}_v{version}"] = frozenset(text(piece, version) for piece in merge(pieces))
    return shut


def closed(desired: Ruleset) -> Ruleset:
    """The desired table without a permit, and without an element that nftables could stumble over."""
    chains = tuple(
        replace(chain, rules=(Rule((), "drop"),)) if chain.name in (INPUT, FORWARD) else chain
        for chain in desired.chains
        if chain.hook or chain.name in (INPUT, FORWARD)
    )
    return Ruleset(sets=tuple(replace(one, elements=frozenset()) for one in desired.sets), chains=chains)


def _destinations(desired: Ruleset, observed: ObservedRuleset, version: Version) -> list[Range]:
    """Destinations with a permit that only the observed table has, or a drop that only the desired one has."""
    shall = {one.name: [f"{key} : {verdict}" for key, verdict in one.elements.items()] for one in desired.maps}
    permits, drops = f"permits_v{version}", f"drops_v{version}"
    return [
        *_without_counterpart(observed.elements.get(permits, ()), shall.get(permits, ()), version),
        *_without_counterpart(shall.get(drops, ()), observed.elements.get(drops, ()), version),
    ]


def _without_counterpart(ours: Iterable[str], theirs: Iterable[str], version: Version) -> Iterable[Range]:
    """The pieces of `ours` that have not the same verdict in `theirs`, however either is cut into elements."""
    labelled = [(read(key, version), (side, verdict)) for side, key, verdict in _verdicts(ours, theirs)]
    for piece, labels in partition(labelled):
        if any((False, verdict) not in labels for mine, verdict in labels if mine):
            yield piece


def _verdicts(ours: Iterable[str], theirs: Iterable[str]) -> Iterable[tuple[bool, str, str]]:
    for mine, elements in ((True, ours), (False, theirs)):
        for element in elements:
            key, _, verdict = element.partition(" : ")
            yield mine, key, verdict


def _sources(desired: Ruleset, observed: ObservedRuleset, version: Version) -> list[Range]:
    """Addresses to remove from a set of sources, or to add to one whose members a rule drops."""
    dropped = _dropped_from(desired)
    found: set[str] = set()
    for one in desired.sets:
        if one.name.startswith("from_") and one.name.endswith(f"_v{version}"):
            held = observed.elements.get(one.name, frozenset())
            found |= held - one.elements
            found |= one.elements - held if one.name in dropped else frozenset()
    return [read(address, version) for address in found]


def _dropped_from(desired: Ruleset) -> frozenset[str]:
    """The sets of sources that a rule drops from."""
    return frozenset(
        condition.set_name
        for chain in desired.chains
        for rule in chain.rules
        if rule.verdict == "drop"
        for condition in rule.conditions
        if isinstance(condition, Member) and condition.set_name.startswith("from_")
    )

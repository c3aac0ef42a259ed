"""Permits of senders, as rules of the table: peer rules for traffic to this host, route permits for traffic through it.

Sources are named sets, one for each distinct selector and family, so that a peer that comes or goes changes elements
and nothing else.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Literal, TypeAlias, TypeVar

import msgspec

from services.agent.core.intervals import Range, Version, merge
from services.agent.core.parsed import Route
from services.agent.core.rule import Condition, IpProtocol, Member, Origin, Ports, Rule, digest
from shared.events.documents import Action, Permit, PortRange, Protocol, RuleDoc
from shared.events.subjects import group_audience, peer_audience

R = TypeVar("R", RuleDoc, Permit)

SSH_PORT = PortRange(22, 22)
"""What the protocol netbird-ssh stands for where a rule names no ports."""

Layer4: TypeAlias = Literal["all", "tcp", "udp", "icmp"]

_ICMP: dict[Version, str] = {4: "icmp", 6: "ipv6-icmp"}
VERSIONS: tuple[Version, Version] = (4, 6)


class Selector(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Peers by group or by name; `within`, unless None, are groups they must also be in. All sorted.

    title: names one that may become another without the table's shape becoming another one, "" otherwise.
    """

    groups: tuple[str, ...]
    peers: tuple[str, ...]
    within: tuple[str, ...] | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """Stable for the selector, whoever its members are."""
        return self.title or _name(self.groups, self.peers, self.within)


@lru_cache(maxsize=65536)
def _name(groups: tuple[str, ...], peers: tuple[str, ...], within: tuple[str, ...] | None) -> str:
    parts = (",".join(part) for part in (groups, peers, within or ()))
    return digest(f"{within is None}|{'|'.join(parts)}".encode())


class Match(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one rule or permit says of packets. ports: disjoint and in order, () = all. origin: its ids."""

    action: Action
    sources: Selector
    protocol: Layer4
    ports: tuple[Range, ...]
    origin: Origin = Origin()


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """The same as rules of the table for one family: drops come before everything else (decision A7)."""

    drops: tuple[Rule, ...]
    accepts: tuple[Rule, ...]


def fault(rule: RuleDoc | Permit) -> str:
    """Why the rule makes no sense, "" when it does. A senseless rule would make nft refuse the whole table."""
    if rule.ports and rule.protocol in ("all", "icmp"):
        return f"protocol {rule.protocol} has no ports"
    bad = next((port for port in rule.ports if not 1 <= port.start <= port.end <= 65535), None)
    return f"{bad.start}-{bad.end} are no ports" if bad else ""


def made_usable(rule: R) -> R | None:
    """The rule as it can be used: one that makes no sense permits nothing; as a drop, it drops on all ports."""
    if not fault(rule):
        return rule
    return msgspec.structs.replace(rule, ports=()) if rule.action == "drop" else None


def input_matches(rule: RuleDoc, audiences: Iterable[str]) -> tuple[Match, ...]:
    """The matches of a peer rule for traffic to this host, a destination of it, or a source if it is bidirectional.

    audiences: the host's own.
    """
    mine = frozenset(audiences)
    sides = []
    if _is_in(mine, rule.destinations, rule.destination_peers):
        sides.append((rule.sources, rule.source_peers))
    if rule.bidirectional and _is_in(mine, rule.sources, rule.source_peers):
        sides.append((rule.destinations, rule.destination_peers))
    return tuple(
        _match(rule, Selector(groups=_sorted(groups), peers=_sorted(peers)), policy=rule.policy_id)
        for groups, peers in sides
    )


def route_matches(route: Route, rules: Mapping[str, RuleDoc]) -> tuple[Match, ...]:
    """What the permits of a route say: their sources, as far as the route is distributed to them.

    rules: those this host was given, by id; only they tell of which policy a permit is.
    """
    within = _sorted(route.distribution)
    return tuple(
        _match(
            permit,
            Selector(groups=_sorted(permit.sources), peers=_sorted(permit.source_peers), within=within),
            policy=rules[permit.rule_id].policy_id if permit.rule_id in rules else "",
            route=route.route_id,
        )
        for permit in route.permits or ()
    )


def compiled(matches: Iterable[Match], version: Version) -> Compiled:
    """One rule for each action, selector and protocol, in an order that depends on nothing else."""
    merged: dict[tuple[Action, str, Layer4], list[Match]] = {}
    for match in matches:
        merged.setdefault((match.action, match.sources.name, match.protocol), []).append(match)
    rules: dict[Action, list[Rule]] = {"drop": [], "accept": []}
    for (action, selector, protocol), same in sorted(merged.items(), key=itemgetter(0)):
        sources = Member(version, "source", set_name(selector, version))
        conditions = (sources, *_protocol(protocol, _ports(same), version))
        rules[action].append(Rule(conditions, action, frozenset(match.origin for match in same)))
    return Compiled(drops=tuple(rules["drop"]), accepts=tuple(rules["accept"]))


def set_name(selector: str, version: Version) -> str:
    return f"from_{selector}_v{version}"


def _match(rule: RuleDoc | Permit, sources: Selector, *, policy: str, route: str = "") -> Match:
    named = (SSH_PORT,) if rule.protocol == "netbird-ssh" and not rule.ports else rule.ports
    ports = tuple(merge(Range(port.start, port.end) for port in named))
    return Match(
        action=rule.action,
        sources=sources,
        protocol=_layer4(rule.protocol),
        ports=ports,
        origin=Origin(route, policy, rule.rule_id, ports),
    )


def _layer4(protocol: Protocol) -> Layer4:
    return "tcp" if protocol == "netbird-ssh" else protocol


def _ports(matches: list[Match]) -> tuple[Range, ...]:
    """The ports of all of them, () = all."""
    if len(matches) == 1:
        return matches[0].ports
    limited = all(match.ports for match in matches)
    return tuple(merge(port for match in matches for port in match.ports)) if limited else ()


def _protocol(protocol: Layer4, ports: tuple[Range, ...], version: Version) -> tuple[Condition, ...]:
    match protocol:
        case "all":
            return ()
        case "icmp":
            return (IpProtocol(_ICMP[version]),)
    return (Ports(protocol, ports) if ports else IpProtocol(protocol),)


def _is_in(audiences: frozenset[str], groups: Iterable[str], peers: Iterable[str]) -> bool:
    return not audiences.isdisjoint({*map(group_audience, groups), *map(peer_audience, peers)})


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(ids)))

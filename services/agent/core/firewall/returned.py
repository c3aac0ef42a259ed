"""Counts what clients send to networks whose answers come back by a return address (core/ha/used.py)."""

from collections.abc import Collection, Iterable

from services.agent.core.firewall.served import Served
from services.agent.core.intervals import Network, Version
from services.agent.core.kernel import Hook, NftChain, RuleName, Ruleset
from services.agent.core.rule import Interface, Origin, Rule, Within

RETURNED = "returned"


def returned(interface: str, served: Iterable[Served]) -> tuple[NftChain, ...]:
    """The chain that counts, a rule for each network, the longest prefix first; none where there is nothing to count.

    It decides about nothing: what it accepts is asked of the other chains of the hook.
    """
    origins: dict[Network, set[str]] = {}
    for one in served:
        for network in one.networks if one.returned else ():
            origins.setdefault(network, set()).add(one.route_id)
    if not origins:
        return ()
    ordered = sorted(origins, key=lambda network: (network.version, -network.prefixlen, network.network_address.packed))
    rules = (
        _rule(interface, network, frozenset(Origin(route=route_id) for route_id in origins[network]))
        for network in ordered
    )
    return (NftChain(name=RETURNED, hook=Hook("filter", "forward", -1), rules=tuple(rules)),)


def counting(ruleset: Ruleset | None, routes: Collection[str]) -> frozenset[RuleName]:
    """The rules of the table that count what goes to the networks of these routes."""
    return frozenset(
        (chain.name, rule.key)
        for chain in (ruleset.chains if ruleset is not None else ())
        if chain.name == RETURNED
        for rule in chain.rules
        if any(origin.route in routes for origin in rule.origins)
    )


def _rule(interface: str, network: Network, origins: frozenset[Origin]) -> Rule:
    version: Version = 4 if network.version == 4 else 6
    return Rule((Interface("in", interface), Within(version, "destination", str(network))), "accept", origins)

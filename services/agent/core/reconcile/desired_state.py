"""The whole of what the agent wants of the kernel, or found there: one value, compared entry by entry."""

from collections.abc import Mapping

import msgspec

from services.agent.core.kernel import (
    Link,
    ObservedRuleset,
    RouteEntry,
    RuleEntry,
    RuleKey,
    Ruleset,
    SysctlEntry,
    WireGuardDevice,
    WireGuardPeer,
)


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel shall hold. An empty one (`Desired()`) is a host without Whimbrel: what a clean stop applies.

    revision: newest LOG sequence among the documents it was computed from. unplaced: routes that are offered but not
    installed, and whatever else could not be made, document id → reason for a person. carriers: route id → id of the
    routing peer that carries it here; the next computation takes them as incumbents. served: ids of the routes that
    this host forwards for.
    """

    revision: int = 0
    links: Mapping[str, Link] = {}
    devices: Mapping[str, WireGuardDevice] = {}
    peers: Mapping[str, WireGuardPeer] = {}
    routes: Mapping[str, RouteEntry] = {}
    rules: Mapping[RuleKey, RuleEntry] = {}
    ruleset: Ruleset | None = None
    sysctls: Mapping[str, SysctlEntry] = {}
    unplaced: Mapping[str, str] = {}
    carriers: Mapping[str, str] = {}
    served: frozenset[str] = frozenset()


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel holds of what is ours. sysctls: current values of the paths that were asked for."""

    links: Mapping[str, Link] = {}
    devices: Mapping[str, WireGuardDevice] = {}
    peers: Mapping[str, WireGuardPeer] = {}
    routes: Mapping[str, RouteEntry] = {}
    rules: Mapping[RuleKey, RuleEntry] = {}
    ruleset: ObservedRuleset = ObservedRuleset(shape="", elements={})
    sysctls: Mapping[str, SysctlEntry] = {}

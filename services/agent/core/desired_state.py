"""The whole state that the agent desires of the kernel, or observed there: one value, compared entry by entry."""

from collections.abc import Mapping

import msgspec

from services.agent.core.kernel import (
    FloatingAddress,
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


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """Kernel objects by kind and key: one field for each table of core/reconcile/tables.py but the ruleset.

    sysctls: in a desired state those to set, in an observed one the current values of all that were read.
    """

    links: Mapping[str, Link] = {}
    devices: Mapping[str, WireGuardDevice] = {}
    peers: Mapping[str, WireGuardPeer] = {}
    routes: Mapping[str, RouteEntry] = {}
    rules: Mapping[RuleKey, RuleEntry] = {}
    floating: Mapping[str, FloatingAddress] = {}
    sysctls: Mapping[str, SysctlEntry] = {}


class Desired(Entries, frozen=True, kw_only=True):
    """What the kernel shall hold. An empty one (`Desired()`) is a host without Whimbrel: what a clean stop applies.

    revision: newest LOG sequence among the documents it was computed from. skipped: routes that are offered but not
    installed, and whatever else could not be made, document id → reason for a person. routing_peers: route id → id of
    the routing peer that carries it here; the next computation takes them as incumbents. served: ids of the routes
    that this host forwards for.
    """

    revision: int = 0
    ruleset: Ruleset | None = None
    skipped: Mapping[str, str] = {}
    routing_peers: Mapping[str, str] = {}
    served: frozenset[str] = frozenset()


class Observed(Entries, frozen=True, kw_only=True):
    """What the kernel holds of what is ours."""

    ruleset: ObservedRuleset = ObservedRuleset(shape="", elements={})

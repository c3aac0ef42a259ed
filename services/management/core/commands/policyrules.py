"""From a rule as the API writes it to a rule of a policy.

The order of the checks is NetBird's (reference control-plane §1.6).
"""

from typing import Annotated

import msgspec

from services.management.core.commands.checks import existing_groups, existing_peers, unique
from services.management.core.commands.request import Integer, Request, about
from services.management.core.model.policy import (
    PolicyRule,
    ResourceRef,
    action_of,
    has_ports,
    port_of,
    port_range_of,
    protocol_of,
)
from services.management.core.state import AccountState
from services.management.errors import Invalid


class PortRangeRequest(Request, frozen=True, kw_only=True):
    """Both ends included."""

    start: Annotated[Integer, about("1 to 65535.", 8000, needed=True)] = 0
    end: Annotated[Integer, about("1 to 65535.", 8010, needed=True)] = 0


class PolicyRuleRequest(Request, frozen=True, kw_only=True):
    """A rule of a policy.

    One of sources and sourceResource, and one of destinations and destinationResource, must be there.
    """

    id: Annotated[str | None, about("In a PUT: which of the policy's rules it replaces.")] = None
    name: Annotated[str, about("For people.", "web")] = ""
    description: str = ""
    enabled: Annotated[bool, about("Whether it is in force.", True)] = False
    action: Annotated[str, about("accept or drop.", "accept", needed=True)] = ""
    bidirectional: Annotated[bool, about("Destinations may connect to sources as well.", False)] = False
    protocol: Annotated[str, about("all, tcp, udp, icmp or netbird-ssh.", "tcp", needed=True)] = ""
    ports: Annotated[
        tuple[str, ...] | None, about("Single ports; all if there are neither ports nor ranges.", ["443"])
    ] = None
    port_ranges: Annotated[tuple[PortRangeRequest, ...] | None, about("Instead of ports.")] = None
    authorized_groups: Annotated[
        dict[str, tuple[str, ...]] | None, about("With netbird-ssh: for each source group the local users it may be.")
    ] = None
    sources: Annotated[tuple[str, ...] | None, about("Ids of groups.", ["d0fsqhs3r4mc73a1b2c0"])] = None
    source_resource: Annotated[ResourceRef | None, about("One peer instead.")] = msgspec.field(
        default=None, name="sourceResource"
    )
    destinations: Annotated[tuple[str, ...] | None, about("Ids of groups.", ["d0fsqhs3r4mc73a1b2c0"])] = None
    destination_resource: Annotated[ResourceRef | None, about("One peer instead.")] = msgspec.field(
        default=None, name="destinationResource"
    )


def rule_of(request: PolicyRuleRequest) -> PolicyRule:
    """The rule with the id it asks for, every value valid. Whether what it names exists is for check_references to say.

    Raises Invalid.
    """
    _check_sides(request)
    action = action_of(request.action)
    protocol = protocol_of(request.protocol)
    if request.ports and request.port_ranges:
        raise Invalid("give either ports or port_ranges, not both")
    ports = unique(port_of(port) for port in request.ports or ())
    port_ranges = tuple(dict.fromkeys(port_range_of(r.start, r.end) for r in request.port_ranges or ()))
    sources = tuple(sorted(set(request.sources or ())))
    authorized_groups = (request.authorized_groups or {}) if protocol == "netbird-ssh" else {}
    if authorized_groups and not set(sources) <= authorized_groups.keys():
        raise Invalid("authorized_groups must have an entry for each source group")
    if (ports or port_ranges) and not has_ports(protocol):
        raise Invalid(f"protocol {protocol} has no ports: leave ports and port_ranges out")
    return PolicyRule(
        id=request.id or "",
        name=request.name,
        description=request.description,
        enabled=request.enabled,
        action=action,
        bidirectional=request.bidirectional,
        protocol=protocol,
        ports=ports,
        port_ranges=port_ranges,
        sources=sources,
        destinations=tuple(sorted(set(request.destinations or ()))),
        source_resource=request.source_resource,
        destination_resource=request.destination_resource,
        authorized_groups=authorized_groups,
    )


def check_references(state: AccountState, rule: PolicyRule) -> None:
    """Whether everything the rule names exists; raises Invalid. NetBird drops what it does not know (decision R10)."""
    existing_groups(state, rule.sources, "sources")
    existing_groups(state, rule.destinations, "destinations")
    existing_groups(state, rule.authorized_groups, "authorized_groups")
    _check_resource(state, rule.source_resource, "sourceResource")
    _check_resource(state, rule.destination_resource, "destinationResource")


def _check_sides(request: PolicyRuleRequest) -> None:
    if request.sources is not None and request.source_resource is not None:
        raise Invalid("give either sources or sourceResource, not both")
    if request.destinations is not None and request.destination_resource is not None:
        raise Invalid("give either destinations or destinationResource, not both")
    if request.sources is None and request.source_resource is None:
        raise Invalid("give either sources or sourceResource")
    if request.destinations is None and request.destination_resource is None:
        raise Invalid("give either destinations or destinationResource")


def _check_resource(state: AccountState, resource: ResourceRef | None, field: str) -> None:
    match resource:
        case None:
            return
        case ResourceRef(type="peer"):
            existing_peers(state, [resource.id], field)
        case ResourceRef(type="host" | "subnet" | "domain"):
            raise Invalid(f"{field}: {resource.type} {resource.id} not found")
        case _:
            raise Invalid(f"{field}: type must be peer, host, subnet or domain")

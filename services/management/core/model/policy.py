"""Who may talk to whom."""

import re
from typing import Self

import msgspec

from services.management.core.model.entity import EntityBase, References
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.errors import Invalid
from shared.events.documents import Action, PortRange, Protocol

MAX_PORT = 65_535

_PORT = re.compile(r"[0-9]{1,5}\Z")


class ResourceRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object named directly by a rule; type is "peer", "host", "subnet" or "domain"."""

    id: str
    type: str


class PolicyRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """sources, destinations: group ids, sorted; exclusive with source_resource, destination_resource.

    ports: single ports as the API's text; port_ranges: exclusive with ports. Both empty: all ports.
    authorized_groups: with protocol netbird-ssh, source group → names of local users; empty: any user.
    """

    id: str
    name: str
    description: str = ""
    enabled: bool = True
    action: Action = "accept"
    bidirectional: bool = False
    protocol: Protocol = "all"
    ports: tuple[str, ...] = ()
    port_ranges: tuple[PortRange, ...] = ()
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    source_resource: ResourceRef | None = None
    destination_resource: ResourceRef | None = None
    authorized_groups: dict[str, tuple[str, ...]] = {}

    def groups(self) -> set[str]:
        """Ids of the groups that it names anywhere."""
        return {*self.sources, *self.destinations, *self.authorized_groups}

    def peers(self) -> set[str]:
        """Ids of the peers that it names directly."""
        resources = (self.source_resource, self.destination_resource)
        return {resource.id for resource in resources if resource is not None and resource.type == "peer"}


class Policy(EntityBase, frozen=True, kw_only=True, gc=False, tag="policy"):
    name: str
    description: str = ""
    enabled: bool = True
    rules: tuple[PolicyRule, ...] = ()
    source_posture_checks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"policy {self.name}"

    @classmethod
    def references(cls) -> References[Self]:
        return {
            Group: lambda policy: {group for rule in policy.rules for group in rule.groups()},
            Peer: lambda policy: {peer for rule in policy.rules for peer in rule.peers()},
        }


def action_of(text: str) -> Action:
    """Raises Invalid."""
    match text:
        case "accept" | "drop":
            return text
    raise Invalid("action must be accept or drop")


def protocol_of(text: str) -> Protocol:
    """Raises Invalid."""
    match text:
        case "all" | "tcp" | "udp" | "icmp" | "netbird-ssh":
            return text
    raise Invalid("protocol must be all, tcp, udp, icmp or netbird-ssh")


def port_of(text: str) -> str:
    """A port in decimal without leading zeros; raises Invalid."""
    if not _PORT.match(text) or not 1 <= int(text) <= MAX_PORT:
        raise Invalid(f"ports: {text[:20]!r} is not a port between 1 and {MAX_PORT}")
    return str(int(text))


def port_range_of(start: int, end: int) -> PortRange:
    """Raises Invalid, also for a range that ends before it starts (NetBird takes those)."""
    if not 1 <= start <= end <= MAX_PORT:
        raise Invalid(f"port_ranges: {start} to {end} is not a range between 1 and {MAX_PORT}")
    return PortRange(start, end)


def has_ports(protocol: Protocol) -> bool:
    return protocol not in ("all", "icmp")

"""Who may talk to whom."""

import re

import msgspec

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


class Policy(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="policy"):
    id: str
    name: str
    description: str = ""
    enabled: bool = True
    rules: tuple[PolicyRule, ...] = ()
    source_posture_checks: tuple[str, ...] = ()


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

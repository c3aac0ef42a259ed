"""Who may talk to whom."""

import msgspec

from shared.events.documents import Action, PortRange, Protocol


class ResourceRef(msgspec.Struct, frozen=True, kw_only=True):
    """One object named directly by a rule; type is "peer", "host", "subnet" or "domain"."""

    id: str
    type: str


class PolicyRule(msgspec.Struct, frozen=True, kw_only=True):
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


class Policy(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="policy"):
    id: str
    name: str
    description: str = ""
    enabled: bool = True
    rules: tuple[PolicyRule, ...] = ()
    source_posture_checks: tuple[str, ...] = ()

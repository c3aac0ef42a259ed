"""A network route: a prefix or names, who carries the traffic, and who gets the route."""

from typing import Literal, TypeAlias

import msgspec

NetworkType: TypeAlias = Literal["IPv4", "IPv6", "Domain"]

DOMAIN_PLACEHOLDER = "192.0.2.0/32"
"""What the API shows as the network of a domain route (NetBird's placeholder)."""


class Route(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="route"):
    """network: a masked prefix in canonical text (decision R6), "" for a domain route.

    domains: IDNA ASCII, lower case, in the order given. peer and peer_groups exclude each other; both empty is a
    route without a router. groups: distribution. access_control_groups: policy destinations (decision A1).
    """

    id: str
    network_id: str
    description: str = ""
    network: str = ""
    domains: tuple[str, ...] = ()
    network_type: NetworkType = "IPv4"
    peer: str = ""
    peer_groups: tuple[str, ...] = ()
    metric: int = 9999
    masquerade: bool = False
    enabled: bool = False
    groups: tuple[str, ...] = ()
    access_control_groups: tuple[str, ...] = ()
    keep_route: bool = False
    skip_auto_apply: bool = False

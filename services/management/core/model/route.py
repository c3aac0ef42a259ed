"""A network route: a prefix or names, who carries the traffic, and who gets the route."""

from typing import Literal, Self, TypeAlias

from services.management.core.model.entity import EntityBase, References
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.errors import Invalid
from shared.events.documents import Probe
from shared.net.domains import BadDomain, parse_domain, to_unicode
from shared.net.prefix import BadPrefix, parse_prefix, version

NetworkType: TypeAlias = Literal["IPv4", "IPv6", "Domain"]

DOMAIN_PLACEHOLDER = "192.0.2.0/32"
"""What the API shows as the network of a domain route (NetBird's placeholder)."""

MAX_NETWORK_ID_LENGTH = 40
MAX_DOMAINS = 32
MIN_METRIC, MAX_METRIC = 1, 9999
"""NetBird's bounds (reference control-plane §1.1); the metric's are what Windows takes."""


class Route(EntityBase, frozen=True, kw_only=True, gc=False, tag="route"):
    """network: a masked prefix in canonical text (decision R6), "" for a domain route.

    domains: IDNA ASCII, lower case, in the order given. peer and peer_groups exclude each other; both empty is a
    route without a router. groups: distribution. access_control_groups: policy destinations (decision A1).
    probe, return_address: see RouteDoc.
    """

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
    return_address: str = ""
    probe: Probe | None = None

    @property
    def title(self) -> str:
        return f"route {self.network_id}"

    @classmethod
    def references(cls) -> References[Self]:
        return {
            Group: lambda route: (*route.peer_groups, *route.groups, *route.access_control_groups),
            Peer: lambda route: (route.peer,),
        }

    @property
    def destination(self) -> str:
        """What it leads to, for people: the prefix, or the names as people write them."""
        return self.network or ", ".join(map(to_unicode, self.domains))

    def same_destination(self, other: "Route") -> bool:
        """Whether both lead to the same prefix or the same set of names (decision R4)."""
        return self.network == other.network and set(self.domains) == set(other.domains)

    def same_ha_set(self, other: "Route") -> bool:
        """Decision R5."""
        return self.network_id == other.network_id and self.same_destination(other)

    def served_alike(self, other: "Route") -> bool:
        """Whether the same peers and groups serve the same destination."""
        groups_alike = set(self.peer_groups) == set(other.peer_groups)
        return self.same_destination(other) and self.peer == other.peer and groups_alike


def check_network_id(network_id: str) -> None:
    """1 to 40 code points, whatever they are."""
    if not 1 <= len(network_id) <= MAX_NETWORK_ID_LENGTH:
        raise Invalid(f"network_id must have 1 to {MAX_NETWORK_ID_LENGTH} characters, it has {len(network_id)}")


def check_metric(metric: int) -> None:
    if not MIN_METRIC <= metric <= MAX_METRIC:
        raise Invalid(f"metric must be between {MIN_METRIC} and {MAX_METRIC}, it is {metric}")


def network_of(text: str) -> tuple[str, NetworkType]:
    """The prefix in canonical text (decision R6) and its family; raises Invalid."""
    try:
        prefix = parse_prefix(text)
    except BadPrefix as problem:
        raise Invalid(f"network: {problem}") from None
    return prefix, "IPv6" if version(prefix) == 6 else "IPv4"


def domains_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The names in IDNA ASCII, each once, in the order given (decision R8); raises Invalid."""
    if not 1 <= len(texts) <= MAX_DOMAINS:
        raise Invalid(f"domains must have 1 to {MAX_DOMAINS} entries, it has {len(texts)}")
    try:
        return tuple(dict.fromkeys(map(parse_domain, texts)))
    except BadDomain as problem:
        raise Invalid(f"domains: {problem}") from None

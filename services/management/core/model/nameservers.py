"""Which nameservers answer the questions of whom."""

from ipaddress import IPv6Address, ip_address
from typing import Literal, Self, TypeAlias

import msgspec

from services.management.core.model.entity import EntityBase, References
from services.management.core.model.group import Group
from services.management.errors import Invalid
from shared.net.domains import BadDomain, parse_name

NameserverType: TypeAlias = Literal["udp"]

MAX_NAME_LENGTH = 40
MAX_NAMESERVERS = 3
"""NetBird's bounds (reference control-plane §1.10)."""

MAX_MATCH_DOMAINS = 1000
"""NetBird has no limit; so many of the longest fit into one message of the bus."""

MAX_PORT = 65_535


class Nameserver(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """ip: in canonical text."""

    ip: str
    ns_type: NameserverType
    port: int


class NameserverGroup(EntityBase, frozen=True, kw_only=True, gc=False, tag="nameserver-group"):
    """primary: they answer for everything that nothing else answers for, and there are no domains. domains: what they
    answer for, each with everything below it: IDNA ASCII, in the order given. groups: distribution.

    search_domains_enabled: the domains are also tried behind names that are no whole ones.
    """

    name: str
    description: str = ""
    nameservers: tuple[Nameserver, ...] = ()
    enabled: bool = False
    groups: tuple[str, ...] = ()
    primary: bool = False
    domains: tuple[str, ...] = ()
    search_domains_enabled: bool = False

    @property
    def title(self) -> str:
        return f"nameserver group {self.name}"

    @classmethod
    def references(cls) -> References[Self]:
        return {Group: lambda group: group.groups}


def nameserver_of(ip: str, ns_type: str, port: int) -> Nameserver:
    """Raises Invalid, also for an address that cannot be asked."""
    if ns_type != "udp":
        raise Invalid(f"nameservers: ns_type must be udp, it is {ns_type[:20]!r}")
    if not 1 <= port <= MAX_PORT:
        raise Invalid(f"nameservers: port must be between 1 and {MAX_PORT}, it is {port}")
    return Nameserver(ip=nameserver_address(ip, "nameservers"), ns_type="udp", port=port)


def match_domains_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The names in IDNA ASCII, each once, in the order given; raises Invalid."""
    if len(texts) > MAX_MATCH_DOMAINS:
        raise Invalid(f"domains must have at most {MAX_MATCH_DOMAINS} entries, it has {len(texts)}")
    try:
        return tuple(dict.fromkeys(map(parse_name, texts)))
    except BadDomain as problem:
        raise Invalid(f"domains: {problem}") from None


def nameserver_address(text: str, field: str) -> str:
    """In canonical text; raises Invalid, which names the field."""
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:  # a zone means something on one host only
        raise Invalid(f"{field}: {text[:80]!r} is not an address")
    if address.is_unspecified or address.is_multicast:
        raise Invalid(f"{field}: nobody can be asked at {address}")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise Invalid(f"{field}: write {address} as {address.ipv4_mapped}")
    return str(address)

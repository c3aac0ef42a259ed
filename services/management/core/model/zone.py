"""Names that the account itself gives addresses to."""

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self

from services.management.core.model.entity import EntityBase, References
from services.management.core.model.group import Group
from services.management.errors import AlreadyThere, Invalid
from shared.events.documents import RecordType
from shared.net.domains import BadDomain, is_within, parse_name

MAX_NAME_LENGTH = 255
MAX_CONTENT_LENGTH = 255
"""NetBird's bounds (reference control-plane §1.10)."""

MAX_TTL_S = 2**31 - 1
"""RFC 2181 §8; NetBird has no limit."""

MAX_RECORDS = 2000
"""Of one zone: the longest ones still make one message of the bus. NetBird has no limit."""


class Zone(EntityBase, frozen=True, kw_only=True, gc=False, tag="zone"):
    """domain: IDNA ASCII, no other zone's, and for good. enable_search_domain: it is also tried behind names that are
    no whole ones. Its records are entities of their own, which go with it."""

    name: str
    domain: str
    enabled: bool = True
    enable_search_domain: bool = False
    distribution_groups: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"zone {self.name}"

    @classmethod
    def references(cls) -> References[Self]:
        return {Group: lambda zone: zone.distribution_groups}


class ZoneRecord(EntityBase, frozen=True, kw_only=True, gc=False, tag="zone-record"):
    """zone: its id. name: whole, IDNA ASCII, in the zone's domain. content: an address in canonical text, or the name
    of a CNAME as `name`. ttl: seconds."""

    zone: str
    name: str
    type: RecordType
    content: str
    ttl: int

    @property
    def title(self) -> str:
        return f"record {self.name} {self.type}"


def zone_domain_of(text: str) -> str:
    """Raises Invalid."""
    return _name(text, "domain")


def check_zone_name(name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise Invalid(f"name must have 1 to {MAX_NAME_LENGTH} characters, it has {len(name)}")


def record_name_of(text: str, zone: Zone) -> str:
    """Raises Invalid, also for a name that is not in the zone."""
    name = _name(text, "name")
    if not is_within(name, zone.domain):
        raise Invalid(f"name: {name} is not in the zone, write a name that ends with {zone.domain}")
    return name


def record_type_of(text: str) -> RecordType:
    """Raises Invalid."""
    match text:
        case "A" | "AAAA" | "CNAME":
            return text
    raise Invalid("type must be A, AAAA or CNAME")


def content_of(text: str, type: RecordType, name: str) -> str:
    """An address of the type's family in canonical text, or another name than `name`; raises Invalid."""
    if not 1 <= len(text) <= MAX_CONTENT_LENGTH:
        raise Invalid(f"content must have 1 to {MAX_CONTENT_LENGTH} characters, it has {len(text)}")
    if type == "CNAME":
        target = _name(text, "content")
        if target == name:
            raise Invalid(f"content: {name} cannot stand for itself")
        return target
    try:
        address = IPv4Address(text) if type == "A" else IPv6Address(text)
    except AddressValueError:
        raise Invalid(f"content: {text[:80]!r} is no address of an {type} record") from None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise Invalid(f"content: {address} means nothing to other hosts")
    return str(address)


def check_ttl(ttl: int) -> None:
    if not 0 <= ttl <= MAX_TTL_S:
        raise Invalid(f"ttl must be between 0 and {MAX_TTL_S} seconds, it is {ttl}")


def check_beside(record: ZoneRecord, others: Iterable[ZoneRecord]) -> None:
    """Whether a zone can have the record beside its others (RFC 1034 §3.6.2); raises AlreadyThere or Invalid."""
    for other in others:
        if other.id == record.id or other.name != record.name:
            continue
        if (other.type, other.content) == (record.type, record.content):
            raise AlreadyThere(f"the zone has {other.title} {other.content} already: change that one")
        if "CNAME" in (other.type, record.type):
            raise Invalid(f"the zone has {other.title} already, and a CNAME stands alone: choose another name")


def check_beside_peers(zone_domain: str, dns_domain: str, field: str) -> None:
    """Whether a zone and the peers' names can be told apart; raises Invalid."""
    if is_within(zone_domain, dns_domain) or is_within(dns_domain, zone_domain):
        raise Invalid(f"{field}: zone {zone_domain} and the domain {dns_domain} of the peers overlap: choose another")


def _name(text: str, field: str) -> str:
    try:
        return parse_name(text)
    except BadDomain as problem:
        raise Invalid(f"{field}: {problem}") from None

"""Which DNS servers the resolver asks for the names of an account's routes."""

from ipaddress import ip_network
from typing import Literal, TypeAlias

import msgspec

from services.management.core.model.nameservers import MAX_NAMESERVERS, MAX_PORT, nameserver_address
from services.management.errors import Invalid
from shared.net.domains import BadDomain, parse_name
from shared.net.routable import unroutable

UpstreamType: TypeAlias = Literal["udp", "tls"]

FIELD = "resolver_nameservers"


class Upstream(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """ip: in canonical text. name: what the certificate of one that is asked over TLS is for, "" for its address."""

    ip: str
    ns_type: UpstreamType
    port: int
    name: str = ""


def upstream_of(ip: str, ns_type: str, port: int, name: str) -> Upstream:
    """Raises Invalid, also for an address that would be one of the resolver's own host."""
    address = nameserver_address(ip, FIELD)
    if why := unroutable(ip_network(address)):
        raise Invalid(f"{FIELD}: {why}, which the resolver cannot ask")
    if not 1 <= port <= MAX_PORT:
        raise Invalid(f"{FIELD}: port must be between 1 and {MAX_PORT}, it is {port}")
    match ns_type:
        case "udp" if name:
            raise Invalid(f"{FIELD}: a name is for ns_type tls, that of {address} is udp")
        case "udp" | "tls":
            return Upstream(ip=address, ns_type=ns_type, port=port, name=_name(name))
    raise Invalid(f"{FIELD}: ns_type must be udp or tls, it is {ns_type[:20]!r}")


def check_number(number: int) -> None:
    """Raises Invalid."""
    if number > MAX_NAMESERVERS:
        raise Invalid(f"{FIELD} must have at most {MAX_NAMESERVERS} entries, it has {number}")


def _name(text: str) -> str:
    try:
        return parse_name(text) if text else ""
    except BadDomain as problem:
        raise Invalid(f"{FIELD}: {problem}") from None

"""Documents of the feed as the agent works with them: prefixes, addresses and names parsed once, when they come.

A text that makes no sense is kept, and its parsed value is empty: whoever uses the document says why it cannot.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeVar

import msgspec

from services.agent.core.intervals import Network, parse
from shared.events.documents import PeerDoc, ResolutionDoc, ResolvedAddress, RouteDoc
from shared.net.wireguard import is_public_key

A = TypeVar("A", IPv4Address, IPv6Address)


class Peer(PeerDoc, frozen=True, kw_only=True):
    """v4, v6: its overlay addresses as Python and nft write them, "" where it has none of the family.

    has_key: whether its WireGuard key is one.
    """

    v4: str
    v6: str
    has_key: bool


class Route(RouteDoc, frozen=True, kw_only=True):
    """prefix: of `network`, None where that is none.

    canonical: the prefix with host bits masked; `network` itself where it is no prefix. names: its domains in lower
    case, sorted.
    """

    prefix: Network | None
    canonical: str
    names: tuple[str, ...]


class ResolvedTo(msgspec.Struct, frozen=True):
    """addresses: of the name, as they came. networks: the same as prefixes of full length, without what is none.

    seen: unix seconds at which the resolver last saw each of them; () where this host learned them itself.
    """

    name: str
    addresses: tuple[str, ...]
    networks: tuple[Network, ...]
    seen: tuple[float, ...] = ()


class Resolution(msgspec.Struct, frozen=True):
    """The addresses of a domain route's names."""

    route_id: str
    names: tuple[ResolvedTo, ...]


def peer(document: PeerDoc) -> Peer:
    return Peer(
        **msgspec.structs.asdict(document),
        v4=canonical_address(document.address_v4, IPv4Address),
        v6=canonical_address(document.address_v6, IPv6Address),
        has_key=is_public_key(document.wireguard_key),
    )


def route(document: RouteDoc) -> Route:
    prefix = prefix_of(document.network)
    return Route(
        **msgspec.structs.asdict(document),
        prefix=prefix,
        canonical=document.network if prefix is None else str(prefix),
        names=tuple(sorted({domain.lower() for domain in document.domains})),
    )


def resolution(document: ResolutionDoc) -> Resolution:
    return Resolution(document.route_id, tuple(_resolved(name.name, name.addresses) for name in document.names))


def prefix_of(text: str) -> Network | None:
    """The prefix, None where the text is none."""
    try:
        return parse(text)
    except ValueError:
        return None


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address, None where the text is none, or has a prefix length or a zone."""
    try:
        return ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def canonical_address(text: str, family: type[A]) -> str:
    """The address as Python and nft write it, "" where the text is none of the family."""
    address = address_of(text)
    return str(address) if isinstance(address, family) else ""


def alone(address: IPv4Address | IPv6Address) -> Network:
    """The prefix of full length."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def _resolved(name: str, addresses: tuple[ResolvedAddress, ...]) -> ResolvedTo:
    texts = tuple(one.address for one in addresses)
    found = (address_of(text) for text in texts)
    networks = tuple(alone(address) for address in found if address is not None)
    return ResolvedTo(name, texts, networks, tuple(one.last_seen for one in addresses))

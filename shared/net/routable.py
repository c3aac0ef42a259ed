"""Which destinations an overlay may route: hosts and resolver judge by it, and the API tells it beforehand."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from shared.net.prefix import Network

_SPECIAL: tuple[tuple[Network, str], ...] = (
    (IPv4Network("0.0.0.0/8"), "part of the unspecified network"),  # RFC 791 §3.2: "this network"
    (IPv4Network("255.255.255.255/32"), "the broadcast address"),
    (IPv4Network("240.0.0.0/4"), "reserved"),  # RFC 1112 §4
)
"""Beside what Python knows by name. IPv6 has none of them: what is reserved there has been given out piece by piece."""


def unroutable(network: Network, overlay: Iterable[Network] = ()) -> str:
    """Why a prefix may not be routed, "" when it may (reference agent §1.2).

    A prefix that begins in a special range has no other use or would take more than it says; one that merely holds such
    a range is allowed, as one wider than the overlay is. overlay: the overlay's own prefixes.
    """
    base = network.network_address
    what = _kind(network)
    if what:
        return f"{network} is {what}"
    if isinstance(base, IPv6Address) and base.ipv4_mapped is not None:
        return f"{network} is IPv4 written as IPv6"
    inside = next((other for other in overlay if _is_subnet(network, other)), None)
    return f"{network} lies inside the overlay {inside}" if inside is not None else ""


def _kind(network: Network) -> str:
    base = network.network_address
    if base.is_loopback:
        return "loopback"
    if base.is_link_local:
        return "link-local"
    if base.is_multicast:
        return "multicast"
    if base.is_unspecified:
        return "part of the unspecified network" if network.prefixlen else ""
    return next((kind for special, kind in _SPECIAL if base in special), "")


def _is_subnet(network: Network, other: Network) -> bool:
    """Of either family; `subnet_of` refuses to compare two."""
    if isinstance(network, IPv6Network) != isinstance(other, IPv6Network):
        return False
    return network.prefixlen >= other.prefixlen and network.overlaps(other)

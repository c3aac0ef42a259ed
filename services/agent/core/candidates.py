"""Underlay addresses: which of this host's are worth telling, and in which order to try another host's."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

import msgspec

from services.agent.core.destinations import is_address, parsed
from services.agent.core.intervals import Network

_OVERLAYS = ("wt", "wg", "utun", "tun", "zt", "ZeroTier", "ts", "Tailscale", "tailscale")
_CONTAINERS = ("docker", "br-", "virbr", "podman", "cni", "flannel", "cali", "lxc", "lxd")
NEVER_PREFIXES = _OVERLAYS + _CONTAINERS
"""Interfaces of other overlays and of containers, whose addresses nobody out there reaches (connectivity §2.1)."""

LIMIT = 16
"""Endpoints looked at per peer: what a host has, and not what a hostile one may claim."""


class InterfaceAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of this host. address: with prefix length, "10.0.0.2/24"."""

    interface: str
    address: str


def reachable(addresses: Iterable[InterfaceAddress], *, interface: str, overlay: Iterable[str]) -> tuple[str, ...]:
    """The addresses at which others may reach this host, with prefix length, in the given order.

    interface, overlay: this host's, left out.
    """
    networks = _networks(overlay)
    return tuple(one.address for one in addresses if _is_told(one, interface) and not _is_within(one.address, networks))


def local_endpoints(addresses: Iterable[str], port: int) -> tuple[str, ...]:
    """What to tell other peers, IPv4 first, else in the given order. addresses: see `reachable`."""
    found = dict.fromkeys(ip_interface(address).ip for address in addresses)
    ordered = sorted(found, key=lambda address: address.version)
    return tuple(endpoint(str(address), port) for address in ordered)[:LIMIT]


def ranked(
    endpoints: Iterable[str], *, local: Iterable[str], overlay: Iterable[str], own: Iterable[str] = ()
) -> tuple[str, ...]:
    """Another host's endpoints in the order to try them: those on a network of ours first, then as it ranked them.

    Families in which this host has no address come last; what is no endpoint, lies in the overlay or is our own is
    left out. local: see `reachable`.
    """
    nearby, tunnels, mine = _networks(local), _networks(overlay), frozenset(own)
    families = {network.version for network in nearby}
    usable: dict[str, tuple[bool, bool]] = {}
    for text in list(endpoints)[:LIMIT]:
        parts = split(text)
        if parts is None or text in mine or not _is_routable(parts[0]) or _is_within(parts[0], tunnels):
            continue
        address = ip_address(parts[0])
        usable.setdefault(
            endpoint(str(address), parts[1]), (not _is_within(parts[0], nearby), address.version not in families)
        )
    return tuple(sorted(usable, key=lambda text: usable[text]))


def endpoint(address: str, port: int) -> str:
    """ "address:port" or "[address]:port"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split(endpoint: str) -> tuple[str, int] | None:
    """Address and port, None when it is no endpoint."""
    host, _, port = endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = host[1:-1] if bracketed else host
    if not is_address(address) or bracketed != (":" in address):
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5) or not 1 <= int(port) <= 65535:
        return None
    return address, int(port)


def _is_told(one: InterfaceAddress, interface: str) -> bool:
    if one.interface in ("lo", interface) or one.interface.startswith(NEVER_PREFIXES):
        return False
    return _is_routable(one.address.partition("/")[0])


def _is_routable(text: str) -> bool:
    address = ip_address(text)
    if address.version == 6 and address.ipv4_mapped is not None:
        return False  # another name of an IPv4 address, which may be any of those below
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def _is_within(text: str, networks: Iterable[Network]) -> bool:
    address = ip_interface(text).ip
    return any(address.version == network.version and address in network for network in networks)


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(network for network in map(parsed, texts) if network is not None)

"""Underlay addresses: which of this host's are worth telling, and in which order to try another host's."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

import msgspec

from services.agent.core.destinations import is_address, parsed
from services.agent.core.intervals import Network

NEVER_PREFIXES = ("wt", "wg", "utun", "tun", "zt", "ZeroTier", "ts", "Tailscale", "tailscale", "docker", "br-", "virbr")
"""Interfaces of other overlays and of containers, whose addresses nobody out there reaches (connectivity §2.1)."""

LIMIT = 16
"""Endpoints looked at per peer: what a host has, and not what a hostile one may claim."""


class InterfaceAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of this host. address: with prefix length, "10.0.0.2/24". bridge_port: its interface is one.

    deprecated: IPv6's, no longer to be used for new connections.
    """

    interface: str
    address: str
    bridge_port: bool = False
    deprecated: bool = False


def local_endpoints(
    addresses: Iterable[InterfaceAddress], *, port: int, interface: str, overlay: Iterable[str]
) -> tuple[str, ...]:
    """What to tell other peers, IPv4 first, else in the given order. interface, overlay: this host's, left out."""
    networks = _networks(overlay)
    usable = [one for one in addresses if _is_told(one, interface) and not _is_within(one.address, networks)]
    found = dict.fromkeys(ip_interface(one.address).ip for one in usable)
    ordered = sorted(found, key=lambda address: address.version)
    return tuple(endpoint(str(address), port) for address in ordered)[:LIMIT]


def ranked(
    endpoints: Iterable[str], *, local: Iterable[str], overlay: Iterable[str], own: Iterable[str] = ()
) -> tuple[str, ...]:
    """Another host's endpoints in the order to try them: those on a network of ours first, then as it ranked them.

    Families in which this host has no address come last; what is no endpoint, lies in the overlay or is our own is
    left out. local: this host's addresses with prefix length.
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
    if one.deprecated or one.bridge_port or one.interface in ("lo", interface):
        return False
    # A veth that is no bridge port is a container's or a namespace's own uplink, and so worth telling.
    return not one.interface.startswith(NEVER_PREFIXES) and _is_routable(one.address.partition("/")[0])


def _is_routable(text: str) -> bool:
    address = ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def _is_within(text: str, networks: Iterable[Network]) -> bool:
    address = ip_interface(text).ip
    return any(address.version == network.version and address in network for network in networks)


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(network for network in map(parsed, texts) if network is not None)

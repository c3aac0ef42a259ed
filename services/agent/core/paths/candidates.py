"""Endpoints of the underlay: how they are written, and in which order to try another host's."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from services.agent.core.intervals import Network
from services.agent.core.parsed import address_of, prefix_of

LIMIT = 16
"""Endpoints looked at per peer: what a host has, and not what a hostile one may claim."""


def local_endpoints(addresses: Iterable[str], port: int) -> tuple[str, ...]:
    """What to tell other peers, in the order given. addresses: of whereabouts.Told."""
    return tuple(dict.fromkeys(endpoint(str(ip_interface(address).ip), port) for address in addresses))


def ranked(
    endpoints: Iterable[str], *, local: Iterable[str], overlay: Iterable[str], own: Iterable[str] = ()
) -> tuple[str, ...]:
    """Another host's endpoints in the order to try them: those on a network of ours first, then as it ranked them.

    Families in which this host has no address come last; what is no endpoint, lies in the overlay or is our own is
    left out. local: this host's addresses, with prefix length.
    """
    nearby, tunnels, mine = networks(local), networks(overlay), frozenset(own)
    families = {network.version for network in nearby}
    usable: dict[str, tuple[bool, bool]] = {}
    for text in list(endpoints)[:LIMIT]:
        parts = split(text)
        if parts is None or text in mine or not is_routable(parts[0]) or is_within(parts[0], tunnels):
            continue
        address = ip_address(parts[0])
        usable.setdefault(
            endpoint(str(address), parts[1]), (not is_within(parts[0], nearby), address.version not in families)
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
    if address_of(address) is None or bracketed != (":" in address):
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5) or not 1 <= int(port) <= 65535:
        return None
    return address, int(port)


def is_routable(text: str) -> bool:
    """Whether packets to this address may come from another host."""
    address = ip_address(text)
    if address.version == 6 and address.ipv4_mapped is not None:
        return False  # another name of an IPv4 address, which may be any of those below
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def is_within(text: str, prefixes: Iterable[Network]) -> bool:
    """Whether an address, with or without prefix length, lies in one of them."""
    address = ip_interface(text).ip
    return any(address.version == network.version and address in network for network in prefixes)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Those that are prefixes."""
    return tuple(network for network in map(prefix_of, texts) if network is not None)

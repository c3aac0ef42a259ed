"""Where this host is in the world: its addresses, what its interfaces do, and which addresses are worth telling."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_interface
from typing import TypeAlias

import msgspec

from services.agent.core.intervals import Network
from services.agent.core.paths.candidates import LIMIT, is_routable, is_within, networks

CABLES = frozenset({"veth", "tun", "vxlan", "geneve"})
"""Kinds that attach containers and virtual machines to a bridge, or that bridge to its like on other hosts."""
TUNNELS = frozenset(
    {"tun", "wireguard", "vxlan", "geneve", "ipip", "sit", "gre", "gretap", "ip6tnl", "ip6gre", "ip6gretap", "vti"}
    | {"vti6", "xfrm"}
)
SERVICES = frozenset({"dummy"})
"""Kinds that hold addresses of services, such as kube-ipvs0, which others may reach, or find on every host."""

PASSING = "it is not usable yet, or no longer"
OVERLAY = "it lies in the overlay"
TOO_MANY = f"this host has more than the {LIMIT} that are told"
NOTHING_REACHED = "no default route, bus or peer is reached through it"


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """kind: as the kernel calls it, "bridge" or "veth", "" for hardware and loopback.

    ports: kinds of what is attached to it. has_default: a default route of table main leads there.
    """

    kind: str = ""
    ports: frozenset[str] = frozenset()
    has_default: bool = False


class InterfaceAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of this host. address: with prefix length, "10.0.0.2/24".

    passing: tentative, a duplicate or deprecated, so that nobody should begin to use it.
    """

    interface: str
    address: str
    passing: bool = False


class Way(msgspec.Struct, frozen=True):
    """How packets of the agent and of WireGuard leave this host; without source there is no way."""

    source: str = ""
    interface: str = ""


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """addresses: all, in the kernel's order. interfaces: by name. ways: address of a bus or a peer → the way there."""

    addresses: tuple[InterfaceAddress, ...] = ()
    interfaces: Mapping[str, Interface] = {}
    ways: Mapping[str, Way] = {}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """addresses: with prefix length, best first, at most LIMIT. left_out: other addresses people may expect → why."""

    addresses: tuple[str, ...] = ()
    left_out: Mapping[str, str] = {}


NOWHERE = Way()

Rank: TypeAlias = tuple[int, int]


def told(where: Whereabouts, *, interface: str, overlay: Iterable[str]) -> Told:
    """Which addresses to tell other hosts. interface, overlay: this host's own, left out.

    Interfaces are judged by what they do, not by their names: br-lan may be the uplink of a router, and docker0 is
    one if the default route says so. First come the sources towards bus and peers and what has a default route, then
    other networks, tunnels that lead to bus or peers, and addresses of services. IPv4 first within each.
    """
    tunnels = networks(overlay)
    ranks: dict[str, Rank] = {}
    left_out: dict[str, str] = {}
    for one in where.addresses:
        ip = ip_interface(one.address).ip
        if one.interface == interface or not is_routable(str(ip)):
            continue
        reason = _why_not(one, where, tunnels)
        if reason:
            left_out[one.address] = reason
        elif rank := _rank(one, where):
            ranks.setdefault(one.address, rank)
    ordered = sorted(ranks, key=ranks.__getitem__)
    left_out |= dict.fromkeys(ordered[LIMIT:], TOO_MANY)
    return Told(addresses=tuple(ordered[:LIMIT]), left_out=left_out)


def _why_not(one: InterfaceAddress, where: Whereabouts, overlay: Iterable[Network]) -> str:
    if is_within(one.address, overlay):
        return OVERLAY
    if one.passing:
        return PASSING
    found = where.interfaces.get(one.interface, Interface())
    if found.has_default or one.interface in _used(where) or _is_source(one, where):
        return ""
    if found.kind in TUNNELS:
        return f"{one.interface} is a tunnel, and {NOTHING_REACHED}"
    if found.kind == "bridge" and found.ports <= CABLES:
        return f"{one.interface} is a bridge for containers, and {NOTHING_REACHED}"
    if found.kind == "veth" and _is_whole(one):
        return f"{one.interface} is a cable to one container, and {NOTHING_REACHED}"
    return ""


def _rank(one: InterfaceAddress, where: Whereabouts) -> Rank | None:
    """None for addresses of loopback, unless packets really leave with them, as on hosts that speak BGP."""
    version = ip_interface(one.address).version
    found = where.interfaces.get(one.interface, Interface())
    if found.kind in TUNNELS and not found.has_default:
        return 2, version
    if _is_source(one, where) or (found.has_default and found.kind not in SERVICES):
        return 0, version
    if one.interface == "lo":
        return None
    return (3 if found.kind in SERVICES else 1), version


def _used(where: Whereabouts) -> frozenset[str]:
    """The interfaces through which bus and peers are reached."""
    return frozenset(way.interface for way in where.ways.values()) - {"lo", ""}


def _is_source(one: InterfaceAddress, where: Whereabouts) -> bool:
    ip = ip_interface(one.address).ip
    return any(way.source and ip_address(way.source) == ip for way in where.ways.values())


def _is_whole(one: InterfaceAddress) -> bool:
    network = ip_interface(one.address).network
    return network.prefixlen == network.max_prefixlen


def tunnel_moved(before: Whereabouts, after: Whereabouts, gone: bool, peers: Iterable[str]) -> bool:
    """Whether packets to these peers may have to leave otherwise. gone: an address that was told is, or was, not there.

    A peer that was not asked for before counts as well: nobody knows how its packets left.
    """
    return gone or any(before.ways.get(peer) != after.ways.get(peer, NOWHERE) for peer in peers)


def bus_moved(before: Whereabouts, after: Whereabouts, bus: Iterable[str], ends: tuple[str, str] | None) -> bool:
    """Whether the bus is to be reached anew. ends: own and other address of the connection, None while there is none.

    A connection goes on while its own address is there and still the one to use.
    """
    if ends is None:
        return any(before.ways.get(address) != after.ways.get(address) for address in bus)
    own, other = ends
    if all(ip_interface(one.address).ip != ip_address(own) for one in after.addresses):
        return True
    now = after.ways.get(other, NOWHERE)
    return before.ways.get(other, now) != now and now.source not in ("", own)

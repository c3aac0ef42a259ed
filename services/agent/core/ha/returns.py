"""The return addresses that this host may be asked to hold: of which routes, in which LAN, and who ranks before it."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_interface

import msgspec

from services.agent.core.documents import Documents
from services.agent.core.parsed import Route, address_of
from services.agent.core.paths.whereabouts import InterfaceAddress
from services.agent.core.routing.hagroups import serves


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A return address. Key: address; management gives each to one HA set.

    routes: ids of those that this host serves, sorted. interface: into the LAN, "" where there is none, and `problem`
    says why. source: a link-local address there, for IPv6, "" without one. betters: ids of the other candidates that
    rank before this host, as far as it sees their routes. leaving: people drain this host.
    """

    address: str
    routes: tuple[str, ...]
    interface: str
    problem: str = ""
    source: str = ""
    betters: frozenset[str] = frozenset()
    leaving: bool = False


class Returning(msgspec.Struct, frozen=True, kw_only=True):
    """How a return address stands, for people.

    here: whether this host holds it. holder: peer id, "" for nobody that is known. problem: one line.
    """

    address: str
    interface: str
    here: bool
    holder: str = ""
    problem: str = ""


def returns(documents: Documents, addresses: Iterable[InterfaceAddress], overlay: str) -> dict[str, Return]:
    """Address → what this host knows of it, of the routes it serves. overlay: name of our interface."""
    if documents.self_doc is None:
        return {}
    me = documents.self_doc.peer_id
    sets: dict[str, list[Route]] = {}
    for route in documents.routes.values():
        if route.return_address and not route.masquerade:
            sets.setdefault(route.return_address, []).append(route)
    presence = documents.presences.get(me)
    leaving = presence is not None and presence.draining
    lans = tuple(one for one in addresses if one.interface not in (overlay, "lo"))
    found = {}
    for address, routes in sets.items():
        mine = tuple(sorted(route.route_id for route in routes if serves(me, route)))
        if mine:
            found[address] = _return(address, mine, lans, _betters(me, routes), leaving)
    return found


def _return(
    address: str, routes: tuple[str, ...], lans: Iterable[InterfaceAddress], betters: frozenset[str], leaving: bool
) -> Return:
    wanted = address_of(address)
    own = [ip_interface(one.address) for one in lans]
    inside = [
        (net.network.prefixlen, one)
        for net, one in zip(own, lans, strict=True)
        if wanted is not None and wanted in net.network
    ]
    interface, problem = "", ""
    if wanted is None:
        problem = "it is no address"
    elif any(net.ip == wanted for net in own):
        problem = "it is an address of this host's own: choose one that no host of the LAN has"
    elif not inside:
        problem = "no interface of this host has an address in a network that holds it"
    else:
        interface = max(inside, key=lambda one: (one[0], one[1].interface))[1].interface
    locals_ = (str(net.ip) for net, one in zip(own, lans, strict=True) if one.interface == interface)
    source = next((text for text in locals_ if ":" in address and text.startswith("fe80:")), "")
    return Return(
        address=address,
        routes=routes,
        interface=interface,
        problem=problem,
        source=source,
        betters=betters,
        leaving=leaving,
    )


def _betters(me: str, routes: Iterable[Route]) -> frozenset[str]:
    ranks: dict[str, tuple[int, str]] = {}
    for route in routes:
        for peer_id in route.routing_peers:
            ranks[peer_id] = min(ranks.get(peer_id, (route.metric, peer_id)), (route.metric, peer_id))
    return frozenset(peer_id for peer_id, rank in ranks.items() if rank < ranks[me])


def held(known: Mapping[str, Return], here: Iterable[str]) -> frozenset[str]:
    """The ids of the routes whose address is one of these."""
    return frozenset(route_id for address in here if address in known for route_id in known[address].routes)

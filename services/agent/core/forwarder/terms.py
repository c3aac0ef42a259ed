"""What the forwarder goes by: names, who may ask for which of them, and which addresses it never gives."""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address, ip_network

import msgspec

from services.agent.core.documents import Documents
from services.agent.core.parsed import Peer, Route, prefix_of
from services.agent.core.routing.hagroups import serves
from shared.net.routable import unroutable


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """domains: route id → domains, of the routes whose names this host answers for.

    audiences: sets of routes that somebody may ask about. askers: overlay address → which of them, as a number.
    overlay: prefixes. own: addresses of this host. listen: those of them to answer on.
    """

    domains: Mapping[str, tuple[str, ...]] = {}
    audiences: tuple[tuple[str, ...], ...] = ()
    askers: Mapping[str, int] = {}
    overlay: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()


NOTHING = Terms()
"""There is nothing to answer for."""


def terms(documents: Documents, served: Collection[str], own: Iterable[str], listen: Iterable[str]) -> Terms:
    """The terms by which this host answers; NOTHING where it serves no name, or where clients resolve by themselves.

    served: ids of the routes that it forwards for. own, listen: as in Terms.
    """
    me, settings = documents.self_doc, documents.settings
    if me is None or settings is None or not settings.routing_peer_dns_resolution:
        return NOTHING
    routes = {id: documents.routes[id] for id in served if id in documents.routes}
    named = {id: route for id, route in sorted(routes.items()) if route.names and serves(me.peer_id, route)}
    if not named:
        return NOTHING
    audiences, askers = _askers(named, documents.peers)
    return Terms(
        domains={id: route.names for id, route in named.items()},
        audiences=audiences,
        askers=askers,
        overlay=tuple(filter(prefix_of, (settings.overlay_v4, settings.overlay_v6))),
        own=tuple(sorted(own)),
        listen=tuple(sorted(listen)),
    )


def _askers(
    routes: Mapping[str, Route], peers: Mapping[str, Peer]
) -> tuple[tuple[tuple[str, ...], ...], dict[str, int]]:
    """Whom the routes are distributed to, however many they are: few sets of routes, and a number for each address."""
    by_group: dict[str, list[str]] = {}
    for route_id, route in routes.items():
        for group in route.distribution:
            by_group.setdefault(group, []).append(route_id)
    numbers: dict[tuple[str, ...], int] = {}
    of_groups: dict[tuple[str, ...], int | None] = {}
    askers: dict[str, int] = {}
    for peer in peers.values():
        if peer.groups not in of_groups:
            found = tuple(sorted({id for group in peer.groups for id in by_group.get(group, ())}))
            of_groups[peer.groups] = numbers.setdefault(found, len(numbers)) if found else None
        number = of_groups[peer.groups]
        if number is not None:
            askers.update((address, number) for address in (peer.v4, peer.v6) if address)
    return tuple(numbers), askers


class Never:
    """Which addresses a name may not lead to."""

    def __init__(self, overlay: Iterable[str], own: Iterable[str]) -> None:
        self._overlay = tuple(ip_network(prefix, strict=False) for prefix in overlay)
        self._own = frozenset(own)

    def __call__(self, address: str) -> str:
        """Why not, "" for one that may be routed. address: any spelling of one."""
        parsed = ip_address(address)
        if str(parsed) in self._own:
            return f"{parsed} is an address of the routing peer itself"
        return unroutable(ip_network(parsed), self._overlay)

"""Which routing peers answer for the names of an HA group, in the order in which they are asked."""

from collections.abc import Iterable, Mapping

from services.agent.core.ha.standing import Decision, Ranking
from services.agent.core.parsed import Peer, Route
from services.agent.core.routing.hagroups import HaKey, ha_key
from shared.events.documents import DnsServer

WILLING = ("in use", "standby", "ready")
"""States of candidates that may answer when the one that carries does not."""


class Groups:
    """The domain routes of each HA group, found once for each picture of the routes."""

    def __init__(self) -> None:
        self._routes: Mapping[str, Route] = {}
        self._members: dict[HaKey, list[Route]] = {}

    def of(self, routes: Mapping[str, Route], key: HaKey) -> Iterable[Route]:
        if routes is not self._routes:
            self._routes, self._members = routes, {}
            for route in routes.values():
                if route.names:
                    self._members.setdefault(ha_key(route), []).append(route)
        return self._members.get(key, ())


def carrier(key: HaKey, group: Iterable[Route], carriers: Mapping[HaKey, Decision], carried: Mapping[str, str]) -> str:
    """The id of the routing peer that carries the group, "" for nobody.

    group: its routes. carriers: who was decided on. carried: route id → peer id, by the last pass of the kernel.
    """
    if key in carriers:
        return carriers[key].peer_id
    return next((carried[route.route_id] for route in group if route.route_id in carried), "")


def forwarders(first: str, ranking: Ranking | None, peers: Mapping[str, Peer], port: int) -> tuple[DnsServer, ...]:
    """The forwarder of whoever carries the group, then those of the others. first: peer id, "" for nobody: then none.

    They are asked by IPv4 where they have it, as NetBird does (reference agent §3.2).
    """
    if not first:
        return ()
    others = (one.peer_id for one in ranking.candidates if one.state in WILLING) if ranking else ()
    ids = dict.fromkeys((first, *others))
    return tuple(DnsServer(address, port) for address in _addresses(ids, peers))


def _addresses(ids: Iterable[str], peers: Mapping[str, Peer]) -> Iterable[str]:
    for peer_id in ids:
        peer = peers.get(peer_id)
        if peer is not None and (peer.v4 or peer.v6):
            yield peer.v4 or peer.v6

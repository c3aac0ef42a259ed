"""Which HA sets have connections under way that a move would break."""

from collections.abc import Iterable, Mapping, Set
from ipaddress import ip_address
from typing import NamedTuple

from services.agent.core.documents import Documents
from services.agent.core.ha.connections import Carrier
from services.agent.core.ha.flows import Flow, Socket, is_busy, is_under_way
from services.agent.core.ha.longest import Longest
from services.agent.core.intervals import Network
from services.agent.core.routing.hagroups import HaKey, ha_key


class Way(NamedTuple):
    """networks: the prefixes of the sets that are looked at. peers: set → id of who carries it, of those that have any.

    at: all carried prefixes, with the set of each, None for one that is not looked at: the longest decides.
    """

    networks: Mapping[Network, HaKey]
    peers: Mapping[HaKey, str]
    at: Longest[tuple[HaKey | None]]


def ways(documents: Documents, carried: Mapping[Network, Carrier], keys: Set[HaKey]) -> Way:
    """What these sets lead to."""
    networks: dict[Network, HaKey] = {}
    peers: dict[HaKey, str] = {}
    for network, carrier in carried.items():
        for route_id in carrier.routes:
            key = ha_key(documents.routes[route_id])
            if key in keys:
                networks[network], peers[key] = key, carrier.peer_id
    at = Longest({network: (networks.get(network),) for network in carried})
    return Way(networks, peers, at)


def busy(way: Way, own: Iterable[str], sockets: Iterable[Socket], flows: Iterable[Flow]) -> set[HaKey]:
    """The sets with a connection in the middle of something.

    own: addresses of this host in the overlay. sockets: its own connections, which say more of themselves than
    connection tracking knows; of these it is asked only whether they are being opened.
    """
    mine = {int(ip_address(address)) for address in own}
    ends = [(one.version, one.destination) for one in sockets if is_busy(one)]
    ends += [
        (one.version, one.destination)
        for one in flows
        if is_under_way(one) and (one.state == "opening" or one.source not in mine)
    ]
    found = {key for version, destination in ends for key in way.at.at(version, destination) or ()}
    return {key for key in found if key is not None}

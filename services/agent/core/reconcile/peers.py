"""In which order peers get and lose allowed IPs, so that none is without an owner while a route leads to it."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from itertools import groupby, takewhile
from typing import NamedTuple

from msgspec.structs import replace

from services.agent.core.kernel import WireGuardPeer
from services.agent.core.reconcile.steps import Delete, Step, Upsert
from services.agent.core.reconcile.table import Comparison, Table


def same_peer(desired: WireGuardPeer, observed: WireGuardPeer) -> bool:
    """Whether nothing needs to be done. A desired endpoint of "" leaves the device's own, which may roam."""
    return observed == (desired if desired.endpoint else replace(desired, endpoint=observed.endpoint))


def before_routes(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """Write peers that are new, gain allowed IPs or are reset; they keep those that routes still lead to."""
    moves = comparison.once(_moves)
    return Delete(table.kind, moves.again, opens=True), Upsert(table.kind, moves.opening, opens=True)


def after_routes(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """Take away the allowed IPs that no other peer took over, and the peers that are to go."""
    gone = tuple(key for key in comparison.observed.peers if key not in comparison.desired.peers)
    return *_closing(table, comparison), Delete(table.kind, gone, opens=False)


def _closing(table: Table, comparison: Comparison) -> Iterator[Step]:
    """First the allowed IPs in which some of another peer lie that go as well, the widest first, and then the rest.

    The other way round, packets for the narrow prefix would go to the peer with the wide one for a moment.
    """
    moves, desired, observed = comparison.once(_moves), comparison.desired.peers, comparison.observed.peers
    going = {key: observed[key].allowed_ips - desired[key].allowed_ips - moves.owned for key in moves.closing}
    going |= {key: peer.allowed_ips - moves.owned for key, peer in observed.items() if key not in desired}

    def write(peers: Mapping[str, WireGuardPeer]) -> Iterator[Step]:
        yield Upsert(table.kind, {key: peer for key, peer in peers.items() if key in moves.opening}, opens=True)
        yield Upsert(table.kind, {key: peer for key, peer in peers.items() if key not in moves.opening}, opens=False)

    for _, prefixes in groupby(_containing(going), key=_length):
        entries: dict[str, WireGuardPeer] = {}
        for key, prefix in prefixes:
            going[key] -= {prefix}
            kept = desired[key] if key in desired else replace(observed[key], allowed_ips=frozenset(), endpoint="")
            entries[key] = replace(kept, allowed_ips=kept.allowed_ips | going[key])
        yield from write(entries)
    yield from write({key: peer for key, peer in moves.closing.items() if going[key]})


def _containing(going: Mapping[str, frozenset[str]]) -> list[tuple[str, str]]:
    """Peer and prefix, for each prefix in which one of another peer lies, the widest first."""
    owners = {prefix: key for key, prefixes in going.items() for prefix in prefixes}
    if len(set(owners.values())) < 2:
        return []
    networks = {ip_network(prefix): prefix for prefix in owners}
    lengths = sorted({network.prefixlen for network in networks})
    found = set[str]()
    for network, prefix in networks.items():
        for length in takewhile(network.prefixlen.__gt__, lengths):
            wider = networks.get(network.supernet(new_prefix=length))
            if wider is not None and owners[wider] != owners[prefix]:
                found.add(wider)
    return sorted(((owners[prefix], prefix) for prefix in found), key=lambda one: (_length(one), one))


def _length(one: tuple[str, str]) -> int:
    return ip_network(one[1]).prefixlen


class _Moves(NamedTuple):
    """again: public keys of peers to remove first. opening, closing: peers to write before and after routes change.

    owned: every desired allowed IP.
    """

    again: tuple[str, ...]
    opening: Mapping[str, WireGuardPeer]
    closing: Mapping[str, WireGuardPeer]
    owned: frozenset[str]


def _moves(comparison: Comparison) -> _Moves:
    """A reset of a peer without a desired endpoint is left out: the peer has a session by now.

    A prefix that moves is only added to its new peer, which takes it from the old one in the same moment. A prefix
    that no peer takes over stays until the routes that lead there are gone.
    """
    desired, observed = comparison.desired.peers, comparison.observed.peers
    again = tuple(key for key in comparison.resets if key in observed and key in desired and desired[key].endpoint)
    owned = frozenset(prefix for peer in desired.values() for prefix in peer.allowed_ips)
    moving: dict[str, WireGuardPeer] = {}
    opening: dict[str, WireGuardPeer] = {}
    closing: dict[str, WireGuardPeer] = {}
    for key, peer in desired.items():
        if key not in observed or key in again:
            opening[key] = peer
            continue
        found = observed[key]
        left = frozenset(prefix for prefix in found.allowed_ips - peer.allowed_ips if prefix not in owned)
        meanwhile = replace(peer, allowed_ips=peer.allowed_ips | left)
        taken = found.allowed_ips - peer.allowed_ips - left
        if not same_peer(meanwhile, replace(found, allowed_ips=found.allowed_ips - taken)):
            (moving if meanwhile.allowed_ips - found.allowed_ips else opening)[key] = meanwhile
        if left:
            closing[key] = peer
    return _Moves(again, moving | opening, closing, owned)

"""In which order peers get and lose allowed IPs, so that none is without an owner while a route leads to it."""

from collections.abc import Mapping
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
    opening, closing = comparison.once(_moves)[1:]
    gone = tuple(key for key in comparison.observed.peers if key not in comparison.desired.peers)
    return (
        Upsert(table.kind, {key: peer for key, peer in closing.items() if key in opening}, opens=True),
        Upsert(table.kind, {key: peer for key, peer in closing.items() if key not in opening}, opens=False),
        Delete(table.kind, gone, opens=False),
    )


class _Moves(NamedTuple):
    """again: public keys of peers to remove first. opening, closing: peers to write before and after routes change."""

    again: tuple[str, ...]
    opening: Mapping[str, WireGuardPeer]
    closing: Mapping[str, WireGuardPeer]


def _moves(comparison: Comparison) -> _Moves:
    """A reset of a peer without a desired endpoint is left out: the peer has a session by now.

    A prefix that moves is only added to its new peer, which takes it from the old one in the same moment. A prefix
    that no peer takes over stays until the routes that lead there are gone.
    """
    desired, observed = comparison.desired.peers, comparison.observed.peers
    again = tuple(key for key in comparison.resets if key in observed and key in desired and desired[key].endpoint)
    new_owner = {prefix: key for key, peer in desired.items() for prefix in peer.allowed_ips}
    moving: dict[str, WireGuardPeer] = {}
    opening: dict[str, WireGuardPeer] = {}
    closing: dict[str, WireGuardPeer] = {}
    for key, peer in desired.items():
        if key not in observed or key in again:
            opening[key] = peer
            continue
        found = observed[key]
        left = frozenset(prefix for prefix in found.allowed_ips - peer.allowed_ips if prefix not in new_owner)
        meanwhile = replace(peer, allowed_ips=peer.allowed_ips | left)
        taken = found.allowed_ips - peer.allowed_ips - left
        if not same_peer(meanwhile, replace(found, allowed_ips=found.allowed_ips - taken)):
            (moving if meanwhile.allowed_ips - found.allowed_ips else opening)[key] = meanwhile
        if left:
            closing[key] = peer
    return _Moves(again, moving | opening, closing)

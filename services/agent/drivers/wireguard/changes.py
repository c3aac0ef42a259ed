"""How peers are changed without a moment in which an allowed IP they keep belongs to nobody.

Adding an allowed IP to one peer takes it from the other in one step, in the kernel as in wireguard-go. Replacing a
peer's list empties it first, and packets in between are lost. So what is to go is given to a decoy, a peer that nobody
has the key of, and goes with it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from services.agent.core.kernel import WireGuardPeer

DECOY = "V2hpbWJyZWwncyBkZWNveSwgbm9ib2R5IGhhcyBpdCE="
"""A public key of 32 readable bytes. Should a crash leave the peer behind, it is removed as one that nobody wants."""

AllowedIps = Mapping[str, frozenset[str]]
"""Public key → what the device has."""


class PeerChange(NamedTuple):
    """One peer to set. add: allowed IPs to add, or with `replace` the whole list. endpoint: "" leaves it alone.

    remove: nothing else counts. only_known: nothing happens when the device does not have the peer.
    """

    public_key: str
    endpoint: str = ""
    keepalive_s: int = 0
    add: tuple[str, ...] = ()
    replace: bool = False
    remove: bool = False
    only_known: bool = False


def plan(entries: Mapping[str, WireGuardPeer], held: AllowedIps) -> list[PeerChange]:
    """The changes in order, as one message where the mechanism takes one."""
    changes = []
    had, kept = set[str](), set[str]()
    for key, entry in entries.items():
        own = held.get(key, frozenset())
        changes.append(PeerChange(key, entry.endpoint, entry.keepalive_s, tuple(sorted(entry.allowed_ips - own))))
        had |= own
        kept |= entry.allowed_ips
    if lost := tuple(sorted(had - kept)):
        changes += [PeerChange(DECOY, add=lost), PeerChange(DECOY, remove=True)]
    return changes


def greeting(peer: WireGuardPeer) -> tuple[PeerChange, ...]:
    """What makes WireGuard send the peer an empty packet at once: it does when a keepalive is switched on."""
    return tuple(
        PeerChange(peer.public_key, keepalive_s=keepalive, only_known=True) for keepalive in (0, peer.keepalive_s)
    )


def whole(entry: WireGuardPeer) -> PeerChange:
    """The peer as it shall be, whatever the device has."""
    return PeerChange(
        entry.public_key, entry.endpoint, entry.keepalive_s, tuple(sorted(entry.allowed_ips)), replace=True
    )


def after(entries: Mapping[str, WireGuardPeer], held: AllowedIps) -> dict[str, frozenset[str]]:
    """What the device has once the plan is done."""
    given = frozenset[str]().union(*(entry.allowed_ips for entry in entries.values()))
    others = {key: ips - given for key, ips in held.items()}
    return others | {key: entry.allowed_ips for key, entry in entries.items()}

"""How peers are changed without a moment in which an allowed IP belongs to nobody.

Adding an allowed IP to one peer takes it from the other in one step, in the kernel as in wireguard-go. Replacing a
peer's list empties it first, and packets in between are lost; so lists are replaced only to take something away that
nobody else gets, and after everything else.
"""

from collections.abc import Mapping
from typing import NamedTuple

from services.agent.core.kernel import WireGuardPeer

AllowedIps = Mapping[str, frozenset[str]]
"""Public key → what the device has."""


class PeerChange(NamedTuple):
    """One peer to set. add: allowed IPs to add, or the whole list with `replace`. endpoint: "" leaves it alone."""

    public_key: str
    endpoint: str
    keepalive_s: int
    add: tuple[str, ...]
    replace: bool


def plan(entries: Mapping[str, WireGuardPeer], held: AllowedIps) -> list[PeerChange]:
    """The changes in order, as one message where the mechanism takes one."""
    changes = []
    taken = {ip for key, entry in entries.items() for ip in entry.allowed_ips - held.get(key, frozenset())}
    for key, entry in entries.items():
        had = held.get(key, frozenset())
        replace = bool(had - entry.allowed_ips - taken)
        add = entry.allowed_ips if replace else entry.allowed_ips - had
        changes.append(PeerChange(key, entry.endpoint, entry.keepalive_s, tuple(sorted(add)), replace))
    return sorted(changes, key=lambda change: change.replace)


def after(entries: Mapping[str, WireGuardPeer], held: AllowedIps) -> dict[str, frozenset[str]]:
    """What the device has once the plan is done."""
    given = frozenset[str]().union(*(entry.allowed_ips for entry in entries.values()))
    others = {key: ips - given for key, ips in held.items()}
    return others | {key: entry.allowed_ips for key, entry in entries.items()}

"""In which order to change the kernel.

Nothing becomes more open than it was before or shall be after, whichever step the change stops at:

1. the ruleset, in one transaction: what is no longer permitted is cut, what is permitted from now on waits for routes;
2. what opens, from the inside outwards: link, device, settings, peers with their allowed IPs, rules, routes;
3. what closes, in reverse: routes, rules, allowed IPs nobody took over, peers, settings, link, and the ruleset last.

Replacing comes before removing, so that a route that moves never disappears (make before break).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.firewall.ruleset import Elements, Replace, change
from services.agent.core.kernel import RouteEntry, WireGuardPeer
from services.agent.core.reconcile.delta import delta
from services.agent.core.reconcile.desired_state import Desired, Observed
from services.agent.core.reconcile.sysctls import restored

Kind: TypeAlias = Literal["link", "device", "sysctl", "peer", "rule", "route"]
"""Which driver a step is for; a device is one of the WireGuard driver's, and so is making and removing its link."""


class Upsert(msgspec.Struct, frozen=True, tag=True):
    """Make entries what they shall be, in this order. A peer is written with all of its allowed IPs.

    opens: skip the step when the ruleset step of this plan failed, since it may let something through. False for a
    peer that only loses allowed IPs; one that gained others in this plan has them in the same write.
    """

    kind: Kind
    entries: Mapping[Any, Any]
    opens: bool


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Remove entries, in this order.

    opens: as in Upsert. True for peers that a later step adds anew, for rules, and for routes in whose place others
    come: their traffic may go into the open when what replaces them was held back. A peer that is to go always goes.
    """

    kind: Kind
    keys: tuple[Any, ...]
    opens: bool


class Destroy(msgspec.Struct, frozen=True, tag=True):
    """Remove the nftables table."""


Step: TypeAlias = Replace | Elements | Upsert | Delete | Destroy


def plan(
    desired: Desired,
    observed: Observed,
    *,
    resets: Iterable[str] = (),
    originals: Mapping[str, str] | None = None,
) -> tuple[Step, ...]:
    """The steps from `observed` to `desired`, () when there is nothing to do. A clean stop is `plan(Desired(), …)`.

    resets: public keys of peers to remove and add anew, which makes WireGuard send a handshake at once; one without a
    desired endpoint has a session by now and is left alone. originals: values of settings before the agent changed
    them, path → value; those no longer desired are written back. An upserted link that was not observed has to be
    created first.
    """
    again = tuple(
        key for key in resets if key in observed.peers and key in desired.peers and desired.peers[key].endpoint
    )
    opening, closing = _peers(desired.peers, {key: one for key, one in observed.peers.items() if key not in again})
    links, rules = delta(desired.links, observed.links), delta(desired.rules, observed.rules)
    devices, routes = delta(desired.devices, observed.devices), delta(desired.routes, observed.routes)
    settings = delta(desired.sysctls, observed.sysctls)
    steps: tuple[Step | None, ...] = (
        change(desired.ruleset, observed.ruleset) if desired.ruleset is not None else None,
        Upsert("link", links.upserts, opens=True),
        Upsert("device", devices.upserts, opens=True),
        Upsert("sysctl", settings.upserts, opens=True),
        Delete("peer", again, opens=True),
        Upsert("peer", opening, opens=True),
        Upsert("rule", rules.upserts, opens=True),
        Upsert("route", dict(sorted(routes.upserts.items(), key=_unreachable_first)), opens=True),
        Delete(
            "route", _unreachable_last(routes.deletes, observed.routes), opens=bool(routes.upserts or rules.upserts)
        ),
        Delete("rule", rules.deletes, opens=True),
        Upsert("peer", {key: peer for key, peer in closing.items() if key in opening}, opens=True),
        Upsert("peer", {key: peer for key, peer in closing.items() if key not in opening}, opens=False),
        Delete("peer", tuple(key for key in observed.peers if key not in desired.peers), opens=False),
        Upsert("sysctl", restored(originals or {}, desired.sysctls, observed.sysctls), opens=False),
        Delete("link", links.deletes, opens=False),
        Destroy() if desired.ruleset is None and (observed.ruleset.shape or observed.ruleset.elements) else None,
    )
    return tuple(step for step in steps if step is not None and not _is_empty(step))


def same_peer(desired: WireGuardPeer, observed: WireGuardPeer) -> bool:
    """Whether nothing needs to be done. A desired endpoint of "" leaves the device's own, which may roam."""
    return observed == (desired if desired.endpoint else replace(desired, endpoint=observed.endpoint))


def _peers(
    desired: Mapping[str, WireGuardPeer], observed: Mapping[str, WireGuardPeer]
) -> tuple[dict[str, WireGuardPeer], dict[str, WireGuardPeer]]:
    """Peers to write before routes change and peers to write after.

    A prefix that moves is only added to its new peer, which takes it from the old one in the same moment. One that
    nobody takes over stays until the routes that lead there are gone.
    """
    new_owner = {prefix: key for key, peer in desired.items() for prefix in peer.allowed_ips}
    moving: dict[str, WireGuardPeer] = {}
    opening: dict[str, WireGuardPeer] = {}
    closing: dict[str, WireGuardPeer] = {}
    for key, peer in desired.items():
        if key not in observed:
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
    return moving | opening, closing


def _unreachable_first(item: tuple[str, RouteEntry]) -> tuple[bool, str]:
    return not item[1].unreachable, item[0]


def _unreachable_last(prefixes: Iterable[str], routes: Mapping[str, RouteEntry]) -> tuple[str, ...]:
    return tuple(sorted(prefixes, key=lambda prefix: (routes[prefix].unreachable, prefix)))


def _is_empty(step: Step) -> bool:
    match step:
        case Upsert():
            return not step.entries
        case Delete():
            return not step.keys
    return False

"""What is allowed but perhaps not meant; the API shows it beside what was written."""

from collections.abc import Iterator
from ipaddress import ip_address

import msgspec

from services.management.core.feed.offers import ha_set, routing_peers, served_by
from services.management.core.model.peer import Peer
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from services.management.errors import names
from shared.net.prefix import is_default, network
from shared.net.routable import unroutable


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """message: one line for a person.

    code: "open-route", "overlap", "masquerade-off-in-ha-set", "return-addresses-differ", "unroutable", "host-bits",
    "probe-removed", "return-address-removed" or "only-routing-peer".
    """

    code: str
    message: str


def of_route(state: AccountState, route: Route) -> tuple[Warned, ...]:
    """The warnings of a route, stored or about to be."""
    checks = (_unroutable, _open_route, _overlap, _masquerade)
    return tuple(warning for check in checks for warning in check(state, route))


def of_peer(state: AccountState, peer: Peer) -> tuple[Warned, ...]:
    """The warnings of a peer of the account: whoever drains the only one moves nobody (G6)."""
    left = sorted({route.network_id for route in served_by(state, peer) if not _others(state, route, peer)})
    if not peer.draining or not left:
        return ()
    message = f"nobody else serves {names(left)}: clients stay with {peer.name} there until somebody does"
    return (Warned(code="only-routing-peer", message=message),)


def _others(state: AccountState, route: Route, peer: Peer) -> bool:
    """Whether another peer that is not drained serves the route's HA set."""
    return any(
        id != peer.id and not state.peers[id].draining
        for member in ha_set(state, route)
        if member.enabled
        for id in routing_peers(state, member)
    )


def of_request(given: str, route: Route) -> tuple[Warned, ...]:
    """What the route no longer shows: a prefix of length 0 was given with an address, and became an exit (decision R6).

    given: the prefix as it was asked for, "" for names.
    """
    address = given.partition("/")[0]
    if not is_default(route.network) or ip_address(address).is_unspecified:
        return ()
    message = f"{given} without its host bits is {route.network}: an exit route, which all traffic takes"
    return (Warned(code="host-bits", message=message),)


def _open_route(state: AccountState, route: Route) -> Iterator[Warned]:
    """Decision A2."""
    if not route.access_control_groups:
        whom = names(sorted(_group_name(state, group) for group in route.groups))
        message = f"no access control groups: every member of {whom} may send everything through this route"
        yield Warned(code="open-route", message=message)


def _overlap(state: AccountState, route: Route) -> Iterator[Warned]:
    """Decision R9. An exit route holds every prefix; that is what it is for, so it only overlaps with another one."""
    overlapped = {  # once for each HA set, however many routes it consists of
        f"{other.network_id} ({other.network})"
        for other in _overlapping(state, route)
        if other.id != route.id and other.enabled and _same_audience(state, route, other)
    }
    if overlapped:
        order = "the longest prefix wins, then the lower metric"
        message = f"{route.network} overlaps for the same groups with {names(sorted(overlapped))}: {order}"
        yield Warned(code="overlap", message=message)


def _overlapping(state: AccountState, route: Route) -> Iterator[Route]:
    """Routes to prefixes that share addresses with the route's, outside its HA set."""
    if route.network:
        others = state.route_index.overlapping(route.network)
        yield from (other for other in others if not route.same_ha_set(other))


def _same_audience(state: AccountState, route: Route, other: Route) -> bool:
    everybody = state.account.all_group in (*route.groups, *other.groups)
    return everybody or not set(route.groups).isdisjoint(other.groups)


def _masquerade(state: AccountState, route: Route) -> Iterator[Warned]:
    """Decision G7."""
    if route.masquerade:
        return
    members = ha_set(state, route)
    serving = {peer for member in members for peer in routing_peers(state, member)}
    addresses = sorted({member.return_address for member in members if not member.masquerade})
    if len(serving) < 2 or (len(addresses) == 1 and addresses[0]):
        return
    if all(addresses):
        message = f"the routes of this HA set have the return addresses {names(addresses)}: the LAN can use one of them"
        yield Warned(code="return-addresses-differ", message=message)
    else:
        message = (
            f"masquerade is off and {len(serving)} peers serve {route.destination}: replies must find their "
            "way back to whichever of them a client uses. With a return_address the one in charge takes it over"
        )
        yield Warned(code="masquerade-off-in-ha-set", message=message)


def _unroutable(state: AccountState, route: Route) -> Iterator[Warned]:
    """Hosts judge by the same rule and leave such a route out."""
    overlay = (state.account.network_v4, state.account.network_v6)
    reason = unroutable(network(route.network), map(network, overlay)) if route.network else ""
    if reason:
        yield Warned(code="unroutable", message=f"no host uses this route: {reason}")


def _group_name(state: AccountState, group_id: str) -> str:
    return state.groups[group_id].name

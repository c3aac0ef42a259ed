"""Who answers for a return address: what a request changes of its lease.

A lease is the last value of its subject in FACTS, and is replaced by compare-and-set: `number` is the sequence of that
message. It has no end. Whether a holder is there is for the routing peers of the set to find out, who share a LAN with
it. What stands here keeps two of them from taking its place at once, and one that was away from going on as holder.
"""

import hashlib

from services.management.core.feed.offers import routing_peers
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from shared.events.facts import LeaseFact
from shared.events.signals import Lease, LeaseRequest

NOBODY = LeaseFact(holder="")


def lease_of(route: Route) -> str:
    """Names the lease that the route shares with its set, which alone has the address (commands/lan.py)."""
    return hashlib.sha256(f"{route.network_id}\n{route.return_address}".encode()).hexdigest()[:16]


def leases_of(state: AccountState) -> frozenset[str]:
    """The leases that the account's routes ask for."""
    return frozenset(lease_of(route) for route in state.routes.values() if route.return_address)


def asked_for(state: AccountState, peer: str, route_id: str) -> Route | None:
    """The route by which a peer asks for its lease; None when it may not."""
    route = state.routes.get(route_id)
    if route is None or not route.enabled or not route.return_address or peer not in routing_peers(state, route):
        return None
    return route


def gives_back(state: AccountState, lease: str, request: LeaseRequest, peer: str, held: LeaseFact) -> bool:
    """Whether the lease's holder leaves it that serves no such route any more, while others of the set may."""
    return request.wish == "release" and held.holder == peer and lease in leases_of(state)


def candidates(state: AccountState, route: Route) -> tuple[str, ...]:
    """Ids of the routing peers that share the route's lease, by the best metric that each has, then by id."""
    metrics: dict[str, int] = {}
    for other in state.route_index.returning_to(route.return_address):
        if other.enabled and lease_of(other) == lease_of(route):
            for peer in routing_peers(state, other):
                metrics[peer] = min(other.metric, metrics.get(peer, other.metric))
    return tuple(sorted(metrics, key=lambda peer: (metrics[peer], peer)))


def decide(request: LeaseRequest, peer: str, held: LeaseFact, number: int, now: float) -> LeaseFact | None:
    """What the lease becomes by the peer's request, None when it stays. now: unix seconds.

    A late request, one that goes by another lease than there is, changes nothing.
    """
    if request.known != number:
        return None
    match request.wish:
        case "contest" if held.holder not in ("", peer):
            return LeaseFact(
                holder=held.holder,
                contender=peer,
                preferred=request.preferred,
                hears=request.hears,
                used_s=request.used_s,
                at=now,
            )
        case "claim" if not held.holder or held.contender == peer:
            return LeaseFact(holder=peer, at=now)
        case "keep" if held.holder == peer and held.contender:
            return LeaseFact(holder=peer, at=now)
        case "release" if held.holder == peer:
            return LeaseFact(holder="", contender=held.contender, at=now)
    return None


def told(held: LeaseFact, number: int) -> Lease:
    """The lease as its routing peers are told of it, without its candidates."""
    return Lease(
        number=number,
        holder=held.holder,
        contender=held.contender,
        preferred=held.preferred,
        hears=held.hears,
        used_s=held.used_s,
    )

"""The feed as one peer reads it, and the routes it makes of that."""

from collections.abc import Iterable, Mapping

from services.management.core.entities import Entity, Ref
from services.management.core.feed.compose import documents
from services.management.core.feed.unit import Observed
from services.management.core.state import AccountState
from shared.events.documents import Document, PeerDoc, ResolvedName, RouteDoc, SelfDoc
from tests import builders

Read = dict[tuple[str, str], Document]
"""What a peer holds: (kind, id) → document."""


def read(state: AccountState, peer_id: str, resolutions: Mapping[str, tuple[ResolvedName, ...]] | None = None) -> Read:
    """Every document of the peer's audiences; of a route's two copies the one with permits."""
    found: Read = {}
    everything = documents(state, Observed(resolutions or {}))
    self_doc = next(d for d in everything.values() if isinstance(d, SelfDoc) and d.peer_id == peer_id)
    for key, document in everything.items():
        held = found.get((key.kind, key.id))
        if key.audience in self_doc.audiences and not (isinstance(held, RouteDoc) and held.permits is not None):
            found[key.kind, key.id] = document
    return found


def seen_peers(state: AccountState, peer_id: str) -> set[str]:
    """Ids of the other peers it sees."""
    return {d.peer_id for d in read(state, peer_id).values() if isinstance(d, PeerDoc)} - {peer_id}


def routers(state: AccountState, peer_id: str) -> dict[str, tuple[str, ...]]:
    """Route id → the routing peers this peer may use (decision C4), itself alone for a route it serves."""
    sees = seen_peers(state, peer_id)
    usable = {}
    for document in read(state, peer_id).values():
        if isinstance(document, RouteDoc):
            serves = peer_id in document.routing_peers
            usable[document.route_id] = (peer_id,) if serves else tuple(p for p in document.routing_peers if p in sees)
    return {route_id: found for route_id, found in usable.items() if found}


def permits_of(state: AccountState, peer_id: str, route_id: str) -> object:
    """The permits the routing peer holds for the route."""
    document = read(state, peer_id)["route", route_id]
    assert isinstance(document, RouteDoc)
    return document.permits


def changed(state: AccountState, *entities: Entity, deletes: Iterable[Ref] = ()) -> AccountState:
    """The account after one more commit; `state` itself stays as it is."""
    after = AccountState(state.account)
    after.apply(1, builders.commit(*state.entities()))
    after.apply(2, builders.commit(*entities, deletes=list(deletes)))
    return after


def affected(before: AccountState, after: AccountState) -> set[str]:
    """Ids of the peers, among those there before and after, that read something else now."""
    return {
        peer_id for peer_id in before.peers.keys() & after.peers.keys() if read(before, peer_id) != read(after, peer_id)
    }

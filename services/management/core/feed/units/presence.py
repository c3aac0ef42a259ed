"""How a peer that serves routes stands, for whoever sees the peer, and for itself: it is drained by people, too."""

from collections.abc import Iterator

from services.management.core.feed.offers import served_by
from services.management.core.feed.unit import VIEWERS, Copies, Given, LastWord, UnitKind
from services.management.core.feed.units.peer import seen_by
from services.management.core.feed.units.route import SERVING
from services.management.core.feed.visibility import members
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from shared.events.documents import PresenceDoc, Withdrawn
from shared.events.facts import SHORT
from shared.events.subjects import peer_audience


def _documents(given: Given, peer_id: str) -> Copies:
    """Nothing for a peer that serves no enabled route, or of which nothing was ever heard or asked."""
    peer, word = given.state.peers.get(peer_id), given.observed.last_words.get(peer_id)
    if peer is None or (word is None and not peer.draining):
        return
    served = {route.id for route in served_by(given.state, peer)}
    if not served:
        return
    document = _document(peer, word or LastWord(agent=False), served)
    for viewer in sorted({*seen_by(given, peer), peer_audience(peer.id)}):
        yield viewer, peer.id, document


def _document(peer: Peer, word: LastWord, served: set[str]) -> PresenceDoc:
    reasons = {entry.route_id: entry.reason for entry in word.withdrawn if entry.route_id in served}
    return PresenceDoc(
        peer_id=peer.id,
        agent=word.agent,
        draining=peer.draining or word.draining,
        withdrawn=tuple(Withdrawn(route, reasons[route]) for route in sorted(reasons)),
        holds=tuple(sorted(served.intersection(word.holds))),
    )


def in_a_line(reason: str) -> str:
    """What a host says of itself, short enough to hand it on to everybody."""
    return " ".join(reason.split())[:SHORT]


def _serving_members(state: AccountState, audience: str) -> Iterator[str]:
    """Those of an audience that have a document: a policy for ten thousand clients touches none of them here."""
    peers = (state.peers.get(id) for id in members(state, audience))
    return (peer.id for peer in peers if peer and any(served_by(state, peer)))


PRESENCE = UnitKind(
    name="presence",
    entity=Peer,
    makes=PresenceDoc,
    documents=_documents,
    listens={VIEWERS: _serving_members, SERVING: members},
)

"""How a peer that serves routes stands, for whoever gets these routes, and for itself: it is drained by people, too.

Each audience hears of the routes that are distributed to it, and of no other (decision C3): what a routing peer says of
a route names its id, and addresses of the LAN behind it.
"""

from collections.abc import Mapping

from services.management.core.feed.offers import distribution_audiences, served_by
from services.management.core.feed.unit import Copies, Given, LastWord, UnitKind
from services.management.core.feed.units.route import SERVING
from services.management.core.feed.visibility import members
from services.management.core.model.peer import Peer
from services.management.core.model.route import Route
from shared.events.documents import PresenceDoc, Withdrawn
from shared.events.facts import SHORT
from shared.events.subjects import peer_audience


def _documents(given: Given, peer_id: str) -> Copies:
    """Nothing for a peer that serves no enabled route, or of which nothing was ever heard or asked."""
    peer, word = given.state.peers.get(peer_id), given.observed.last_words.get(peer_id)
    if peer is None or (word is None and not peer.draining):
        return
    served = {route.id: route for route in served_by(given.state, peer)}
    if not served:
        return
    for audience, routes in sorted(_told(peer, served).items()):
        yield audience, peer.id, _document(peer, word or LastWord(agent=False), routes)


def _told(peer: Peer, served: Mapping[str, Route]) -> Mapping[str, set[str]]:
    """Audience → ids of the routes that it is told of."""
    told = {peer_audience(peer.id): set(served)}
    for route in served.values():
        for audience in distribution_audiences(route):
            told.setdefault(audience, set()).add(route.id)
    return told


def _document(peer: Peer, word: LastWord, routes: set[str]) -> PresenceDoc:
    reasons = {entry.route_id: entry.reason for entry in word.withdrawn if entry.route_id in routes}
    return PresenceDoc(
        peer_id=peer.id,
        agent=word.agent,
        draining=peer.draining or word.draining,
        withdrawn=tuple(Withdrawn(route, reasons[route]) for route in sorted(reasons)),
        holds=tuple(sorted(routes.intersection(word.holds))),
    )


def in_a_line(reason: str) -> str:
    """What a host says of itself, short enough to hand it on to everybody."""
    return " ".join(reason.split())[:SHORT]


PRESENCE = UnitKind(
    name="presence",
    entity=Peer,
    makes=PresenceDoc,
    documents=_documents,
    listens={SERVING: members},
)

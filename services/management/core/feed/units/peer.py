"""What a peer is, for everybody whom a rule connects it with."""

from collections.abc import Iterator

from services.management.core.feed.unit import NAMED, VIEWERS, Copies, Given, Topic, UnitKind
from services.management.core.feed.visibility import audiences_of, members
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from shared.events.documents import PeerDoc

MEMBERS = "members"
"""Topic: which peers are in the group `id`."""

EXISTS = "exists"
"""Topic: whether there is a peer `id`."""


def _documents(given: Given, peer_id: str) -> Copies:
    state, relations = given.state, given.relations
    peer = state.peers.get(peer_id)
    if peer is None:
        return
    groups = state.groups_of(peer)
    document = PeerDoc(
        peer_id=peer.id,
        name=peer.name,
        fqdn=peer.fqdn(state.account.dns_domain),
        wireguard_key=peer.wireguard_key,
        address_v4=peer.address_v4,
        address_v6=peer.address_v6,
        groups=tuple(group for group in groups if relations.is_named(group)),
        version=peer.meta.version,
        labels=peer.labels,
    )
    for viewer in seen_by(given, peer):
        yield viewer, peer.id, document


def seen_by(given: Given, peer: Peer) -> set[str]:
    """The audiences that see the peer."""
    audiences = audiences_of(peer.id, given.state.groups_of(peer))
    return {viewer for audience in audiences for viewer in given.relations.viewers(audience)}


def _raised(state: AccountState, old: Peer | None, new: Peer | None) -> Iterator[Topic]:
    for group in _groups(state, old) ^ _groups(state, new):
        yield Topic(MEMBERS, group)
    if old is None or new is None:
        yield from (Topic(EXISTS, peer.id) for peer in (old, new) if peer)


def _groups(state: AccountState, peer: Peer | None) -> set[str]:
    return set(state.groups_of(peer)) if peer else set()


PEER = UnitKind(
    name="peer",
    entity=Peer,
    makes=PeerDoc,
    documents=_documents,
    listens={VIEWERS: members, NAMED: AccountState.members},
    raises=_raised,
)

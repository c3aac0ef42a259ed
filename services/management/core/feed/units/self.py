"""What a peer is, for that peer alone."""

from services.management.core.feed.unit import Copies, Given, UnitKind
from services.management.core.feed.visibility import audiences_of
from services.management.core.model.peer import Peer
from shared.events.documents import SelfDoc
from shared.events.subjects import peer_audience


def _documents(given: Given, peer_id: str) -> Copies:
    state = given.state
    peer = state.peers.get(peer_id)
    if peer is None:
        return
    groups = state.groups_of(peer)
    document = SelfDoc(
        peer_id=peer.id,
        name=peer.name,
        fqdn=peer.fqdn(state.account.dns_domain),
        wireguard_key=peer.wireguard_key,
        address_v4=peer.address_v4,
        address_v6=peer.address_v6,
        groups=groups,
        audiences=audiences_of(peer.id, groups),
        labels=peer.labels,
    )
    yield peer_audience(peer.id), peer.id, document


SELF = UnitKind(name="self", entity=Peer, makes=SelfDoc, documents=_documents)

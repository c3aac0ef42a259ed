"""Which peers a policy connects a peer with."""

from services.management.core.feed.compose import RelationsOf
from services.management.core.feed.visibility import members
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from shared.events.subjects import group_audience, peer_audience


class Reach:
    """Answers for many peers of one state: peers with the same groups share the work."""

    def __init__(self, state: AccountState) -> None:
        self._state = state
        self._relations = RelationsOf(state)
        self._of_groups: dict[tuple[str, ...], frozenset[str]] = {}

    def of(self, peer: Peer) -> frozenset[str]:
        """Ids of the peers it may reach or be reached by, without itself."""
        return (self._as_member(peer) | self._by_itself(peer)) - {peer.id}

    def count(self, peer: Peer) -> int:
        common, own = self._as_member(peer), self._by_itself(peer)
        return len(common) - (peer.id in common) + len(own - common - {peer.id})

    def _as_member(self, peer: Peer) -> frozenset[str]:
        found = self._of_groups.get(peer.groups)
        if found is None:
            audiences = map(group_audience, self._state.groups_of(peer))
            found = self._of_groups[peer.groups] = self._viewers_of(*audiences)
        return found

    def _by_itself(self, peer: Peer) -> frozenset[str]:
        return self._viewers_of(peer_audience(peer.id))

    def _viewers_of(self, *audiences: str) -> frozenset[str]:
        viewers = {viewer for audience in audiences for viewer in self._relations.viewers(audience)}
        known = self._state.peers
        return frozenset(id for viewer in viewers for id in members(self._state, viewer) if id in known)

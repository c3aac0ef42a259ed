"""The peers that make sense, and what the WireGuard device shall hold of them."""

from collections.abc import Iterable, Mapping, Set

from services.agent.core.changes import changed, patched
from services.agent.core.kernel import WireGuardPeer
from services.agent.core.parsed import Peer, address_of
from services.agent.core.routing.destinations import Overlay
from shared.events.documents import SelfDoc


class Known:
    """peers: those that make sense. skipped: peer id → why another does not. own: peer id → its host prefixes.

    Of two with the same key or address the one with the lower id stays. What is left out is nobody: it carries no
    route, and its address has no rights of its groups. owned: all host prefixes of peers and of this host.
    """

    def __init__(self, public_key: str, me: SelfDoc | None, overlay: Overlay) -> None:
        self._public_key = public_key
        self._mine = _own_addresses(me)
        self._ipv6 = overlay.ipv6
        self._all: Mapping[str, Peer] = {}
        self.peers: Mapping[str, Peer] = {}
        self.skipped: Mapping[str, str] = {}
        self.own: dict[str, frozenset[str]] = {}
        self.owned: Set[str] = self._mine

    def update(self, peers: Mapping[str, Peer]) -> Set[str]:
        """Take the peers over, sorted by id; gives the host prefixes that came or went."""
        before, self._all = self._all, peers
        others = changed(before, peers)
        if not others:
            return frozenset()
        for peer_id in others:
            self.own.pop(peer_id, None)
            if peer_id in peers:
                self.own[peer_id] = self._addresses(peers[peer_id])
        keys, owned = {self._public_key}, set(self._mine)
        known: dict[str, Peer] = {}
        bad: dict[str, str] = {}
        for peer_id, peer in peers.items():
            own = self.own[peer_id]
            if reason := _fault(peer, own, keys, owned):
                bad[peer_id] = reason
            else:
                known[peer_id] = peer
                keys.add(peer.wireguard_key)
                owned |= own
        former, self.owned = self.owned, owned
        self.peers = known if known != self.peers else self.peers
        self.skipped = bad if bad != self.skipped else self.skipped
        return former ^ owned

    def _addresses(self, peer: Peer) -> frozenset[str]:
        return frozenset(_alone(address) for address in (peer.v4, peer.v6 if self._ipv6 else "") if address)


class DevicePeers:
    """What the WireGuard device shall hold, kept up to date peer by peer."""

    def __init__(self) -> None:
        self._known: Mapping[str, Peer] = {}
        self._endpoints: Mapping[str, str] = {}
        self._keys: dict[str, str] = {}
        self._peers: Mapping[str, WireGuardPeer] = {}

    def update(
        self, known: Known, routed: Mapping[str, Set[str]], rerouted: Iterable[str], endpoints: Mapping[str, str]
    ) -> Mapping[str, WireGuardPeer]:
        """Public key → peer. A routed prefix that is somebody's overlay address stays with its owner.

        routed: peer id → routed prefixes. rerouted: ids of peers for whom these, or those of them that are somebody's
        address, may be others.
        """
        others = {*rerouted, *changed(self._known, known.peers), *changed(self._endpoints, endpoints)}
        self._known, self._endpoints = known.peers, endpoints
        changes: dict[str, WireGuardPeer | None] = {
            self._keys.pop(peer_id): None for peer_id in others if peer_id in self._keys
        }
        for peer_id in others & known.peers.keys():
            key = self._keys[peer_id] = known.peers[peer_id].wireguard_key
            changes[key] = WireGuardPeer(
                public_key=key,
                allowed_ips=known.own[peer_id].union(routed.get(peer_id, frozenset()) - known.owned),
                endpoint=endpoints.get(peer_id, ""),
            )
        self._peers = patched(self._peers, changes)
        return self._peers


def _fault(peer: Peer, own: Set[str], keys: Set[str], addresses: Set[str]) -> str:
    if not peer.has_key:
        return "its WireGuard key is none"
    if peer.wireguard_key in keys:
        return "its WireGuard key belongs to another host"
    if not own:
        return "it has no overlay address"
    taken = min(own & addresses, default="")
    return f"its overlay address {taken} belongs to another host" if taken else ""


def _own_addresses(me: SelfDoc | None) -> frozenset[str]:
    found = map(address_of, (me.address_v4, me.address_v6) if me else ())
    return frozenset(_alone(str(address)) for address in found if address is not None)


def _alone(address: str) -> str:
    """The prefix of full length of an address."""
    return f"{address}/{128 if ':' in address else 32}"

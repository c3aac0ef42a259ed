"""The sets of sources that rules name, kept up to date peer by peer and permit by permit."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.agent.core.changes import changed
from services.agent.core.firewall.permits import VERSIONS, Selector, set_name
from services.agent.core.intervals import Version
from services.agent.core.kernel import NftSet
from services.agent.core.parsed import Peer


class Sources:
    """sets: by name, one for each selector and family with the overlay addresses of its members."""

    def __init__(self) -> None:
        self._peers: Mapping[str, Peer] = {}
        self._in_group: dict[str, set[str]] = {}
        self._uses: Counter[str] = Counter()
        self._selectors: dict[str, Selector] = {}
        self.sets: dict[str, NftSet] = {}

    def update(self, peers: Mapping[str, Peer], gone: Iterable[Selector], came: Iterable[Selector]) -> None:
        """Take over the peers, and whom rules no longer name and name from now on."""
        dirty = self._follow(peers)
        for selector in came:
            name = selector.name
            self._uses[name] += 1
            if self._selectors.get(name) != selector:
                self._selectors[name] = selector
                dirty.add(name)
        for selector in gone:
            name = selector.name
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._selectors[name]
                for version in VERSIONS:
                    self.sets.pop(set_name(name, version), None)
        for name in dirty & self._selectors.keys():
            members = self._members(self._selectors[name])
            for version in VERSIONS:
                self._put(set_name(name, version), version, members)

    def _put(self, name: str, version: Version, members: set[str]) -> None:
        addresses = (self._peers[one].v4 if version == 4 else self._peers[one].v6 for one in members)
        elements = frozenset(address for address in addresses if address)
        if name not in self.sets or self.sets[name].elements != elements:
            self.sets[name] = NftSet(name=name, type=f"ipv{version}_addr", interval=False, elements=elements)

    def _follow(self, peers: Mapping[str, Peer]) -> set[str]:
        """Take the peers over; gives the names of the selectors that gained, lost or changed a peer."""
        before, self._peers = self._peers, peers
        others, groups = changed(before, peers), set[str]()
        for peer_id in others:
            for group in before[peer_id].groups if peer_id in before else ():
                self._in_group[group].discard(peer_id)
                groups.add(group)
            for group in peers[peer_id].groups if peer_id in peers else ():
                self._in_group.setdefault(group, set()).add(peer_id)
                groups.add(group)
        if not others:
            return set()
        return {
            name
            for name, one in self._selectors.items()
            if not (groups.isdisjoint(one.groups) and others.isdisjoint(one.peers))
        }

    def _members(self, selector: Selector) -> set[str]:
        members = set(selector.peers) & self._peers.keys()
        members.update(*(self._in_group.get(group, ()) for group in selector.groups))
        if selector.within is None:
            return members
        within = [self._in_group[group] for group in selector.within if group in self._in_group]
        return {peer_id for peer_id in members if any(peer_id in group for group in within)}

"""An account as a list shows it: one revision of it, which stays as it is while the list is made in slices."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter

from services.management.api.kept import Slices
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState

STEP = 250
"""Peers looked at between two looks at the clock."""


class View:
    """peers and groups: sorted by id, oldest first. members: the peers of each group that has any, in that order."""

    def __init__(self, state: AccountState) -> None:
        self.revision = state.revision
        self.account = state.account
        self.policies = tuple(state.policies.values())
        groups, self._peers = dict(state.groups), dict(state.peers)
        self.groups = {id: groups[id] for id in sorted(groups)}
        self.peers = tuple(map(self._peers.__getitem__, sorted(self._peers)))
        self.members: dict[str, Sequence[Peer]] = {}

    async def find_members(self, before: "View | None", slices: Slices) -> None:
        """before: an earlier view; only groups whose members are others since are gone through."""
        known = before._peers if before else {}
        changed = [peer for id, peer in self._peers.items() if known.get(id) is not peer]
        await slices.turn()
        gone = [known[id] for id in known.keys() - self._peers.keys()]
        left = [known[peer.id] for peer in changed if peer.id in known]
        joined = defaultdict[str, list[Peer]](list)
        for some in steps(changed):
            for peer in some:
                for group in peer.groups:
                    joined[group].append(peer)
            await slices.turn()
        self.members = dict(before.members) if before else {}
        for group in {*joined, *(group for peer in (*gone, *left) for group in peer.groups)}:
            stayed = [peer for peer in self.members.get(group, ()) if self._peers.get(peer.id) is peer]
            self.members[group] = sorted([*stayed, *joined[group]], key=attrgetter("id"))
            await slices.turn()
        self.members[self.account.all_group] = self.peers


class Newest:
    """The newest view of one account that anybody asked for; it is made anew once for each revision."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._view: View | None = None

    async def view(self, state: AccountState, slices: Slices) -> View:
        """The account as it is now, or later."""
        async with self._lock:
            if self._view is None or self._view.revision != state.revision:
                view = View(state)
                await view.find_members(self._view, slices)
                self._view = view
            return self._view


def steps(peers: Sequence[Peer]) -> list[Sequence[Peer]]:
    """The peers, STEP at a time."""
    return [peers[first : first + STEP] for first in range(0, len(peers), STEP)]

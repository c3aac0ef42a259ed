"""Which peers a policy connects a peer with."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import compress
from operator import is_not, or_

from services.management.api.kept import Slices
from services.management.api.view import View
from services.management.core.feed.visibility import audiences_of, members, sights
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy
from services.management.core.state import AccountState


def reached(state: AccountState, peer: Peer) -> frozenset[str]:
    """Ids of the peers it may reach or be reached by, without itself."""
    viewers = _viewers(state.policies.values())
    found = {viewer for audience in audiences_of(peer.id, state.groups_of(peer)) for viewer in viewers[audience]}
    return frozenset(id for viewer in found for id in members(state, viewer) if id in state.peers) - {peer.id}


def _viewers(policies: Iterable[Policy]) -> defaultdict[str, set[str]]:
    """Audience → those that see its members."""
    found = defaultdict[str, set[str]](set)
    for policy in policies:
        for sight in sights(policy):
            found[sight.seen].add(sight.viewer)
    return found


class Counts:
    """How many peers each peer of a view reaches.

    A set of peers is one number with a bit for each. Peers with the same groups have the same count, except those that
    a policy names.
    """

    def __init__(self, view: View) -> None:
        self._all_group = view.account.all_group
        self._of = view
        self._places: dict[str, int] = {}
        self._seen_by_group: dict[str, int] = {}
        self._seen_by_peer: dict[str, int] = {}
        self._named: set[str] = set()
        self._of_groups: dict[tuple[str, ...], int] = {}

    def fits(self, view: View) -> bool:
        """Whether what the counts depend on is the same in another view."""
        known = self._of
        return known is view or (
            (known.account.all_group, known.policies) == (view.account.all_group, view.policies)
            and len(known.peers) == len(view.peers)
            and all(one.id == other.id and one.groups == other.groups for one, other in _differing(known, view))
        )

    async def prepare(self, slices: Slices) -> None:
        """Before the first count."""
        view, viewers = self._of, _viewers(self._of.policies)
        self._places = {peer.id: place for place, peer in enumerate(view.peers)}
        await slices.turn()
        bits: dict[str, int] = {}
        for audience in {viewer for seen_by in viewers.values() for viewer in seen_by}:
            bits[audience] = self._bits(audience)
            await slices.turn()
        for audience, seen_by in viewers.items():
            kind, _, name = audience.partition(".")
            seen = self._seen_by_group if kind == "g" else self._seen_by_peer
            seen[name] = _united(bits[viewer] for viewer in seen_by)
            await slices.turn()
        self._named = {name for kind, _, name in (a.partition(".") for a in (*viewers, *bits)) if kind == "p"}

    def _bits(self, audience: str) -> int:
        """The peers of an audience."""
        kind, _, name = audience.partition(".")
        ids = (peer.id for peer in self._of.members.get(name, ())) if kind == "g" else (name,)
        found = bytearray(len(self._places) // 8 + 1)
        for place in (self._places[id] for id in ids if id in self._places):
            found[place >> 3] |= 1 << (place & 7)
        return int.from_bytes(found, "little")

    def of(self, peer: Peer) -> int:
        """Without itself."""
        if peer.id in self._named:
            return self._count(peer)
        found = self._of_groups.get(peer.groups)
        if found is None:
            found = self._of_groups[peer.groups] = self._count(peer)
        return found

    def _count(self, peer: Peer) -> int:
        seen = [self._seen_by_group.get(group, 0) for group in (*peer.groups, self._all_group)]
        reached = _united((*seen, self._seen_by_peer.get(peer.id, 0)))
        return reached.bit_count() - (reached >> self._places[peer.id] & 1)


def _differing(one: View, other: View) -> Iterator[tuple[Peer, Peer]]:
    """The peers at the same place that are not the same."""
    different = map(is_not, one.peers, other.peers)
    return compress(zip(one.peers, other.peers, strict=True), different)


class NewestCounts:
    """The counts of one account, made anew once for each change that they depend on."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._counts: Counts | None = None

    async def of(self, view: View, slices: Slices) -> Counts:
        async with self._lock:
            if self._counts is None or not self._counts.fits(view):
                counts = Counts(view)
                await counts.prepare(slices)
                self._counts = counts
            return self._counts


def _united(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)

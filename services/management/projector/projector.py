"""LOG and FACTS → FEED: the documents of every account, written by one replica of management at a time."""

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client

from services.management.core.feed.compose import Unit, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.state import Change
from services.management.ports import Fold
from services.management.projector.inputs import Commits, ResolutionFacts
from services.management.projector.lane import Lane
from shared.bus.undecodable import Undecodables


class Projector:
    """Two lanes, each owned by one replica: "facts" writes resolution, "log" every other kind.

    client: a connection with management's rights. fold: should have caught up with LOG before `run`, because a replica
    that becomes the owner first waits for its own fold.
    """

    def __init__(self, client: Client, fold: Fold, undecodables: Undecodables) -> None:
        self._fold = fold
        self._indexes = {account: FeedIndex(state) for account, state in fold.intent.accounts.items()}
        commits, facts = Commits(fold), ResolutionFacts(client, fold, undecodables)
        shared = (client, fold, self._indexes, undecodables)
        self.log_lane = Lane("log", frozenset({"settings", "self", "peer", "policy", "route"}), commits, *shared)
        self.facts_lane = Lane("facts", frozenset({"resolution"}), facts, *shared)
        fold.listen(self)

    def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
        """Every replica follows every commit, so that a new owner has its indexes at hand."""
        touched = self._follow(account, changes)
        for lane in (self.log_lane, self.facts_lane):
            lane.mark(account, touched)

    def _follow(self, account: str, changes: Sequence[Change]) -> set[Unit]:
        index = self._indexes.get(account)
        if index:
            return index.touched(changes)
        state = self._fold.intent.accounts[account]
        self._indexes[account] = FeedIndex(state)
        return set(units(state))

    async def run(self) -> None:
        """Write FEED whenever this replica owns a lane, until cancelled; another one takes over at once then."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.log_lane.run())
            tasks.create_task(self.facts_lane.run())

"""Tells in the audit trail that a routing peer of an HA set has gone, and that it is back.

The replica that writes FEED does it: it follows how routing peers stand in any case, and there is one. That an entry is
written once does not depend on it, since each is decided on what the log says of the last one.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from services.management.core.commands.decision import Context
from services.management.core.commands.outages import tell
from services.management.core.feed.unit import LastWord
from services.management.core.model.commit import Actor
from services.management.core.model.peer import Peer
from services.management.core.outages import Outages, Place, Told
from services.management.core.state import AccountState
from services.management.errors import ChangesRefused, Refusal, RetryLater
from services.management.ports import CommitPort, Fold
from shared.tasks import end_if_cancelled

EVERY_S = 1.0

SYSTEM = Actor(id="sys", name="System")

log = structlog.get_logger()


class OutageTeller:
    """last_words: account → peer → what was heard last. owns: whether this replica writes FEED.

    clock: monotonic seconds. wall: unix seconds.
    """

    def __init__(
        self,
        fold: Fold,
        last_words: Callable[[str], Mapping[str, LastWord]],
        owns: Callable[[], bool],
        commit: CommitPort,
        new_id: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fold = fold
        self._last_words = last_words
        self._owns = owns
        self._commit = commit
        self._new_id = new_id
        self._clock = clock
        self._wall = wall
        self._outages = Outages(self._find)

    def look(self, account: str, peer: str) -> None:
        """How the peer stands may have changed."""
        self._outages.look((account, peer))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await asyncio.sleep(EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """What is to be told by now."""
        if not self._owns():
            self._outages.forget()
            return
        news = defaultdict[str, list[Told]](list)
        for account, told in self._outages.due(self._clock(), self._wall()):
            news[account].append(told)
        for account, of_account in news.items():
            context = Context(self._wall(), SYSTEM, self._new_id)
            try:
                await self._commit(account, partial(tell, news=of_account, context=context))
            except (Refusal, RetryLater, ChangesRefused) as problem:
                log.debug("outages are told later", problem=str(problem))

    def _find(self, place: Place) -> tuple[AccountState, Peer, LastWord | None] | None:
        account, peer_id = place
        state = self._fold.intent.accounts.get(account)
        peer = state.peers.get(peer_id) if state else None
        return (state, peer, self._last_words(account).get(peer_id)) if state and peer else None

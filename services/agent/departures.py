"""Has the kernel forget connections through this host that come here no more: of clients that left, and of routes that
this host stopped serving."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from services.agent.cells import Watch
from services.agent.core.documents import Documents
from services.agent.core.ha.connections import departed, served
from services.agent.core.ha.longest import Longest
from services.agent.errors import MechanismMissing
from services.agent.ports import ConntrackDriver
from services.agent.situation import Situation
from shared.events.signals import Departed
from shared.tasks import end_if_cancelled

log = structlog.get_logger()


class Departures:
    """Writes `unforgotten`.

    A connection that is forgotten ends at once for the one who was asked, since nobody takes its packets any more,
    and it does not stand in the way when the client comes back.
    """

    def __init__(self, situation: Situation, conntrack: ConntrackDriver) -> None:
        self._situation = situation
        self._conntrack = conntrack
        self._watch = Watch(situation.passed)
        self._left: dict[str, frozenset[str]] = {}
        self._said_at: dict[str, float] = {}
        self._documents = Documents()
        self._served: frozenset[str] = frozenset()

    def hear(self, sender: str, said: Departed) -> None:
        """Take the word of a client. What is not newer than its last one was sent before, or by somebody else again."""
        if said.sent_at <= self._said_at.get(sender, 0.0):
            return
        self._said_at[sender] = said.sent_at
        self._left[sender] = self._left.get(sender, frozenset()) | frozenset(said.routes)
        self._watch.wake()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            await self.step()

    async def step(self) -> None:
        """Forget what was left since the last time: of all clients in one look."""
        passed = self._situation.passed.value
        former, stopped = self._documents, self._served - passed.desired.served
        self._documents, self._served = passed.documents, passed.desired.served
        left, self._left = self._left, {}
        if stopped:
            await self._forget(former, self._served | stopped, dict.fromkeys(former.peers, stopped))
        if left and self._served:
            await self._forget(passed.documents, self._served, left)

    async def _forget(self, documents: Documents, ids: Iterable[str], left: Mapping[str, frozenset[str]]) -> None:
        """left: peer id → routes whose connections are to be forgotten, as far as the peer began them. ids: of all
        routes that this host serves: where several lead to a destination, the longest prefix decides."""
        behind = served(documents, ids)
        by_address = {
            address: left[peer_id]
            for peer_id, peer in documents.peers.items()
            if peer_id in left
            for address in (peer.v4, peer.v6)
            if address
        }
        try:
            forgotten = await asyncio.to_thread(self._forget_left, behind, by_address)
        except (MechanismMissing, OSError) as problem:
            self._tell(f"connections of clients that left are not forgotten: {problem}")
            return
        self._tell("")
        if forgotten:
            log.info("connections forgotten: they come here no more", connections=forgotten)

    def _forget_left(self, behind: Longest[frozenset[str]], left: Mapping[str, frozenset[str]]) -> int:
        """In a thread: there may be more of them than the event loop can wait for."""
        flows = self._conntrack.begun_by(left.keys())
        return self._conntrack.forget(departed(flows, behind, left))

    def _tell(self, problem: str) -> None:
        if problem != self._situation.unforgotten.value:
            self._situation.unforgotten.set(problem)
            if problem:
                log.warning("they end by time-out", problem=problem)

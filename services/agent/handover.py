"""Finds the moment for a move that waits: no connection is under way through the routing peer that is to be left."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping

import structlog

from services.agent.cells import Watch
from services.agent.core.ha.connections import carriers
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.ha.moments import Way, busy, ways
from services.agent.core.ha.standing import Decision
from services.agent.core.intervals import Network
from services.agent.core.routing.hagroups import HaKey
from services.agent.errors import MechanismMissing
from services.agent.ports import ConntrackDriver, HoldDriver, SocketsDriver
from services.agent.situation import Situation
from shared.bus.patience import Trouble
from shared.tasks import end_if_cancelled

OFTEN_S, SELDOM_S = 0.02, 0.25
OFTEN_FOR_S = 2.0
"""A moment between two requests is short; who has not had one for so long is looked at less often."""
SETTLE_S = 0.005
"""What passed just before the gate was shut shows by then."""
SHARE = 0.25
"""Of the time, that is spent looking: a host with 100,000 connections takes a second for all of them."""
HELD_S = 0.5
"""After that the kernel opens by itself, whatever became of this process."""
APPLIED_WITHIN_S = 0.3

log = structlog.get_logger()


class Handover:
    """Writes `released`. Moves wait for it in `carriers`, as long as core/ha/handover.py has patience with them."""

    def __init__(
        self, situation: Situation, sockets: SocketsDriver, conntrack: ConntrackDriver, gate: HoldDriver
    ) -> None:
        self._situation = situation
        self._sockets = sockets
        self._conntrack = conntrack
        self._gate = gate
        self._watch = Watch(situation.carriers, situation.decisions)
        self._passes = Watch(situation.passed)
        self._look_s = 0.0
        self._unheld = Trouble("connections cannot be held back for the moment of a move")
        self._is_shut = False
        self._since: dict[HaKey, tuple[Decision, float]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait(self._rest_s())
            await self.step()

    async def step(self) -> None:
        """Release the moves whose moment has come."""
        waiting = self._waiting()
        now = time.monotonic()
        self._since = {
            key: found if (found := self._since.get(key)) is not None and found[0] == decision else (decision, now)
            for key, decision in waiting.items()
        }
        if not waiting:
            return
        try:
            released = await self._quiet(waiting)
        except (MechanismMissing, OSError) as problem:
            log.warning("connections cannot be looked at: moving at once", problem=str(problem))
            released = waiting
        if released:
            self._situation.released.set(released)
            await self._applied(released)
        if self._is_shut:
            self._is_shut = False
            await self._hold((), 0.0)

    def _waiting(self) -> dict[HaKey, Decision]:
        carried = self._situation.carriers.value
        return {
            key: decision
            for key, decision in self._situation.decisions.value.items()
            if key in carried and carried[key].peer_id != decision.peer_id
        }

    async def _quiet(self, waiting: Mapping[HaKey, Decision]) -> dict[HaKey, Decision]:
        """The moves that break nothing now, with the gate shut for their destinations."""
        began = time.monotonic()
        way = self._way(waiting)
        quiet = waiting.keys() - await self._busy(way)
        self._look_s = time.monotonic() - began
        if not quiet:
            return {}
        shut = [network for network, key in way.networks.items() if key in quiet]
        self._is_shut = True
        await self._hold(shut, HELD_S)
        await asyncio.sleep(SETTLE_S)
        quiet -= await self._busy(way)
        return {key: waiting[key] for key in quiet}

    async def _hold(self, networks: Collection[Network], for_s: float) -> None:
        """Shut the gate for these, or open it. Without it moves are made all the same, and it opens by itself."""
        try:
            problem = await self._gate.hold(networks, for_s)
        except (MechanismMissing, OSError) as lost:
            problem = str(lost)
        if problem:
            self._unheld.tell(problem)
        else:
            self._unheld.over()

    def _way(self, waiting: Mapping[HaKey, Decision]) -> Way:
        passed = self._situation.passed.value
        held = {key: peer.allowed_ips for key, peer in passed.desired.peers.items()}
        return ways(passed.documents, carriers(passed.documents, held), waiting.keys())

    async def _busy(self, way: Way) -> set[HaKey]:
        documents = self._situation.passed.value.documents
        me = documents.self_doc
        own = [address for address in (me.address_v4, me.address_v6) if address] if me is not None else []
        sockets: Iterable[Socket] = self._sockets.of(own)
        return await asyncio.to_thread(self._busy_of, way, own, sockets)

    def _busy_of(self, way: Way, own: Iterable[str], sockets: Iterable[Socket]) -> set[HaKey]:
        """In a thread: of a host that forwards for many the kernel lists more than the event loop can wait for."""
        flows: Iterable[Flow] = self._conntrack.tcp()
        return busy(way, own, sockets, flows)

    async def _applied(self, released: Mapping[HaKey, Decision]) -> None:
        """Return when the kernel has the moves, or has them not for too long."""
        self._passes.catch_up()
        until = time.monotonic() + APPLIED_WITHIN_S
        while (rest_s := until - time.monotonic()) > 0 and not self._has_moved(released):
            end_if_cancelled()
            await self._passes.wait(rest_s)

    def _has_moved(self, released: Mapping[HaKey, Decision]) -> bool:
        passed = self._situation.passed.value
        held = {key: peer.allowed_ips for key, peer in passed.desired.peers.items()}
        found = ways(passed.documents, carriers(passed.documents, held), released.keys())
        return all(found.peers.get(key) == decision.peer_id for key, decision in released.items())

    def _rest_s(self) -> float | None:
        if not self._since:
            return None
        longest = time.monotonic() - max(began for _, began in self._since.values())
        return max(OFTEN_S if longest < OFTEN_FOR_S else SELDOM_S, self._look_s / SHARE)

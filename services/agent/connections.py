"""Ends connections that another routing peer cannot carry on, and tells the former one which routes were left."""

from operator import is_
from typing import Any

import structlog

from services.agent.cells import Watch
from services.agent.core.documents import Documents
from services.agent.core.ha.connections import Carriers, Moved, carriers
from services.agent.errors import MechanismMissing
from services.agent.ports import Farewells, SocketsDriver
from services.agent.situation import Situation
from shared.tasks import end_if_cancelled

log = structlog.get_logger()


class Connections:
    """Compares what each pass left with the one before, and writes `unended`.

    Connections that others have through this host end with their next packet: the routing peer that gets it answers
    with a reset.
    """

    def __init__(self, situation: Situation, sockets: SocketsDriver, farewells: Farewells) -> None:
        self._situation = situation
        self._sockets = sockets
        self._farewells = farewells
        self._watch = Watch(situation.passed)
        self._looked_at: tuple[Any, ...] = ()
        self._carriers = Carriers()

    def begin(self) -> None:
        """Take up where the last run ended, before the kernel is touched: who carries a prefix is what the device says.

        So a switch that a killed run had decided on is noticed when this one carries it out.
        """
        counters = self._situation.counters.value
        documents = self._situation.documents.value or Documents()
        self._carriers = Carriers(carriers(documents, {key: peer.allowed_ips for key, peer in counters.items()}))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            await self.step()

    async def step(self) -> None:
        """Look at the last pass, and do what follows from it."""
        passed = self._situation.passed.value
        documents, peers = passed.documents, passed.desired.peers
        seen = documents.peers, documents.routes, documents.resolutions, peers
        if self._looked_at and all(map(is_, seen, self._looked_at)):
            return
        self._looked_at = seen
        carried = carriers(documents, {key: peer.allowed_ips for key, peer in peers.items()})
        moved = self._carriers.update(carried, documents.routes.keys())
        if moved is None:
            return
        self._end(documents, moved)
        for peer_id, routes in moved.left.items():
            await self._farewells.depart(peer_id, routes)

    def _end(self, documents: Documents, moved: Moved) -> None:
        """Reset this host's own connections that cannot go on."""
        me = documents.self_doc
        own = [address for address in (me.address_v4, me.address_v6) if address] if me is not None else []
        try:
            broken = [one for one in self._sockets.of(own) if moved.breaks(one)]
            ended = self._sockets.end(broken)
        except (MechanismMissing, OSError) as problem:
            self._tell(f"connections that another routing peer cannot carry on are not ended: {problem}")
            return
        self._tell("")
        if ended:
            log.info("connections ended: another routing peer carries their destinations now", connections=ended)

    def _tell(self, problem: str) -> None:
        if problem != self._situation.unended.value:
            self._situation.unended.set(problem)
            if problem:
                log.warning("they end by time-out", problem=problem)

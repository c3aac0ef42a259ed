"""Resolution facts: read to restore and to agree with other replicas, written on changes only."""

import asyncio
import time
from collections.abc import Callable

import structlog

from services.resolver.core.resolutions import Resolutions
from services.resolver.core.routes import RouteKey
from services.resolver.errors import RetryLater
from services.resolver.ports import FactWriter
from shared.bus.codec import decode
from shared.bus.lastvalues import QUIET_S, Superseded
from shared.bus.patience import Patience, Trouble
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import ResolutionFact
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY, Counter
from shared.tasks import end_if_cancelled

LINGER_S = 0.02
"""Names of one route are answered within milliseconds of each other; this makes them one fact."""

WRITES_AT_ONCE = 64

log = structlog.get_logger()

_written = Counter("whimbrel_resolver_facts", "Resolution facts written", registry=REGISTRY)


class Facts:
    """Keeps the facts equal to the resolutions. Reads them as shared.bus.lastvalues.Reader.

    routes_known: whether the feed was read; before, a fact may seem to have no route.
    """

    def __init__(
        self,
        resolutions: Resolutions,
        writer: FactWriter,
        undecodables: Undecodables,
        routes_known: Callable[[], bool],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._resolutions = resolutions
        self._writer = writer
        self._undecodables = undecodables
        self._routes_known = routes_known
        self._wall = wall
        self._sequences: dict[RouteKey, int] = {}
        self._known = False
        self._trouble = Trouble("resolution facts wait", "resolution facts are written again", quiet_s=QUIET_S)
        self._changed = asyncio.Event()

    def begin(self) -> None:
        self._known = False
        self._sequences.clear()
        self._resolutions.begin()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_fact(subject)
            route = RouteKey(key.account, key.id)
            if sequence <= self._sequences.get(route, 0):
                return
            self._sequences[route] = sequence
            fact = decode(subject, data, ResolutionFact)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.FACT_RESOLUTIONS, problem)
            return
        self._resolutions.fact(route, fact, self._wall(), from_the_past=not self._known)
        self.changed()

    def caught_up(self) -> None:
        self._known = True
        self._resolutions.caught_up()
        self.changed()

    def changed(self) -> None:
        """The resolutions may differ from the facts."""
        self._changed.set()

    async def write(self) -> None:
        """Write what differs, for ever."""
        patience = Patience(self._trouble)
        while True:
            end_if_cancelled()
            await self._changed.wait()
            await asyncio.sleep(LINGER_S)
            self._changed.clear()
            while self._known and self._routes_known() and (pending := self._resolutions.pending()):
                batch = pending[:WRITES_AT_ONCE]
                if any(await asyncio.gather(*(self._write(key, fact) for key, fact in batch))):
                    patience.failures = 0
                    continue
                await patience.wait()
            if self._known and self._routes_known():
                patience.worked()

    async def _write(self, key: RouteKey, fact: ResolutionFact) -> bool:
        try:
            sequence = await self._writer.write(key, fact, after=self._sequences.get(key, 0))
        except Superseded:
            return False
        except RetryLater as problem:
            self._trouble.tell(problem)
            return False
        if sequence > self._sequences.get(key, 0):
            self._sequences[key] = sequence
            self._resolutions.written(key, fact)
        _written.inc()
        count = sum(len(name.addresses) for name in fact.names)
        log.info("resolution", account=key.account, route=key.route_id, names=len(fact.names), addresses=count)
        return True

"""What the two lanes are driven by: commits of LOG, and the resolver's facts."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.core.feed.compose import Resolutions, Unit
from services.management.ports import Fold
from services.management.projector.reading import read_all
from shared.bus.codec import decode
from shared.bus.streams import FACTS, LOG
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import ResolvedName
from shared.events.facts import ResolutionFact
from shared.events.subjects import BadSubject, FactKey

FOLD_WAIT_S = 1.0
"""How long a fact waits for the fold to know its route. It is taken then anyway, and shown once the route is there."""


class Input(Protocol):
    """What a lane makes documents from, besides the intent; `stream` and `filter` say what drives it."""

    @property
    def stream(self) -> str: ...

    @property
    def filter(self) -> str: ...

    async def load(self) -> None:
        """Read anew all that there is."""

    async def take(self, messages: Sequence[Msg]) -> Collection[tuple[str, Unit]]:
        """Take messages in, after waiting until the fold is as new as they are; gives accounts and units they touch.

        A message that cannot be decoded is terminated.
        """

    def resolutions(self, account: str) -> Resolutions: ...


class Commits:
    """Commits touch what the fold says, so that only their place in the log matters here."""

    stream = LOG
    filter = subjects.LOG_ALL

    def __init__(self, fold: Fold) -> None:
        self._fold = fold

    async def load(self) -> None: ...

    async def take(self, messages: Sequence[Msg]) -> Collection[tuple[str, Unit]]:
        await self._fold.wait_for(max((_sequence(message) for message in messages), default=0))
        return ()

    def resolutions(self, account: str) -> Resolutions:
        return {}


class ResolutionFacts:
    """The newest fact of each route.

    The lane that follows them may be without an owner while no fact comes. What a commit does to resolution documents
    then waits for the next fact; the resolver publishes one for every revision of a route document.
    """

    stream = FACTS
    filter = subjects.FACT_RESOLUTIONS

    def __init__(self, client: Client, fold: Fold, undecodables: Undecodables) -> None:
        self._client = client
        self._fold = fold
        self._undecodables = undecodables
        self._names: dict[str, dict[str, tuple[ResolvedName, ...]]] = defaultdict(dict)
        self._sequences: dict[FactKey, int] = {}

    async def load(self) -> None:
        self._names.clear()
        self._sequences.clear()
        for message in await read_all(self._client, FACTS, [self.filter]):
            if fact := self._decode(message):
                self._keep(*fact, _sequence(message))

    async def take(self, messages: Sequence[Msg]) -> Collection[tuple[str, Unit]]:
        facts = [(message, self._decode(message)) for message in messages]
        newest = max((fact[1].revision for _, fact in facts if fact), default=0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._fold.wait_for(newest), FOLD_WAIT_S)
        touched = set()
        for message, fact in facts:
            if fact is None:
                await message.term()
            elif self._keep(*fact, _sequence(message)):
                touched.add((fact[0].account, Unit("resolution", fact[0].id)))
        return touched

    def resolutions(self, account: str) -> Resolutions:
        return self._names[account]

    def _decode(self, message: Msg) -> tuple[FactKey, ResolutionFact] | None:
        try:
            return subjects.parse_fact(message.subject), decode(message.subject, message.data, ResolutionFact)
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note(self.filter, problem)
            return None

    def _keep(self, key: FactKey, fact: ResolutionFact, sequence: int) -> bool:
        """False for a fact that is older than the one held."""
        if sequence <= self._sequences.get(key, 0):
            return False
        self._sequences[key] = sequence
        if fact.names:
            self._names[key.account][key.id] = fact.names
        else:
            self._names[key.account].pop(key.id, None)
        return True


def _sequence(message: Msg) -> int:
    return message.metadata.sequence.stream

"""Asks for each name when it is due, many at once."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable

from services.resolver.core.answers import Answer
from services.resolver.core.questions import Question
from services.resolver.core.schedule import Due, Schedule
from services.resolver.ports import Upstream
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

AT_ONCE = 192
"""Names of one account, or of all those without DNS servers of their own, that are asked for at once: two sockets each.
Accounts do not wait for each other's servers (decision D7)."""

FAILED_AT_ONCE = 64
"""Of those whose last look-up brought nothing. They wait for each other, never others for them (decision D7)."""

OF_AN_ACCOUNT = 4
"""An account with servers of its own has this part of the lanes."""

_asked = Counter("whimbrel_resolver_lookups", "Look-ups of a name, both families", ["result"], registry=REGISTRY)
_names = Gauge("whimbrel_resolver_names", "Names that routes want", registry=REGISTRY)


class Asking:
    """Keeps a schedule and tells each answer to `tell`."""

    def __init__(
        self,
        schedule: Schedule,
        upstream: Upstream,
        tell: Callable[[Question, Answer], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._upstream = upstream
        self._tell = tell
        self._clock = clock
        self._wake = asyncio.Event()
        self._lanes: dict[tuple[str, bool], asyncio.Semaphore] = {}

    def want(self, questions: Iterable[Question]) -> None:
        """These and no others are wanted from now on."""
        wanted = list(questions)
        _names.set(len(wanted))
        self._forget_lanes({question.account for question in wanted})
        self._schedule.want(wanted, self._clock())
        self._wake.set()

    async def run(self) -> None:
        """Ask, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                end_if_cancelled()
                self._wake.clear()
                for due in self._schedule.due(self._clock()):
                    tasks.create_task(self._ask(due))
                await self._sleep()

    async def _ask(self, due: Due) -> None:
        async with self._lane(due):
            answer = await self._upstream.look_up(due.question)
        _asked.labels("empty" if answer.empty else "addresses").inc()
        self._tell(due.question, answer)
        self._schedule.done(due.question, failed=answer.empty, now=self._clock(), fraction=random.random())
        self._wake.set()

    def _lane(self, due: Due) -> asyncio.Semaphore:
        account, failed = due.question.account, due.failed
        if (account, failed) not in self._lanes:
            most = FAILED_AT_ONCE if failed else AT_ONCE
            self._lanes[account, failed] = asyncio.Semaphore(most // OF_AN_ACCOUNT if account else most)
        return self._lanes[account, failed]

    def _forget_lanes(self, accounts: set[str]) -> None:
        for lane in [lane for lane in self._lanes if lane[0] not in accounts]:
            del self._lanes[lane]

    async def _sleep(self) -> None:
        at = self._schedule.next_at()
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                await self._wake.wait()
        except TimeoutError:
            """A name is due."""

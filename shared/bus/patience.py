"""Going on with what fails for a while: try, complain once a minute, wait, try again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Never, TypeVar

import nats.errors
import structlog

from shared.backoff import LIMIT_S, delay_s
from shared.tasks import end_if_cancelled

REPORT_EVERY_S = 60.0

OF_THE_BUS = (nats.errors.Error, TimeoutError)
"""Errors of a bus that is away, or of a cluster without a leader: they pass."""

T = TypeVar("T")

log = structlog.get_logger()


def in_a_line(problem: Exception) -> str:
    """The words of an error, or its name when it has none."""
    return str(problem) or type(problem).__name__


class Trouble:
    """What does not work for now: `trouble` is said once a minute while it lasts, and then once that it is `over`.

    over: "" when the end of the trouble is told elsewhere. quiet_s: what is over sooner is not worth a line.
    about: facts that each line names.
    """

    def __init__(
        self,
        trouble: str,
        over: str = "",
        *,
        quiet_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        **about: str,
    ) -> None:
        self._trouble = trouble
        self._over = over
        self._quiet_s = quiet_s
        self._clock = clock
        self._about = about
        self._since: float | None = None
        self._said = False
        self._said_at = float("-inf")

    def begin(self) -> None:
        """It begins now: what was told before was of something else."""
        self._since = self._clock()

    def tell(self, problem: Exception | str, *, at_once: bool = False) -> None:
        """It is there, or still there. at_once: say so now, whatever was said a moment ago."""
        now = self._clock()
        if self._since is None:
            self._since = now
        due = now - self._since >= self._quiet_s and now - self._said_at >= REPORT_EVERY_S
        if due or at_once:
            self._said, self._said_at = True, now
            said = problem if isinstance(problem, str) else in_a_line(problem)
            log.warning(f"{self._trouble}, going on trying", problem=said, **self._about)

    def over(self) -> None:
        """It works again, or still."""
        if self._said and self._over and self._since is not None:
            log.info(self._over, after_s=round(self._clock() - self._since, 1), **self._about)
        self._since, self._said = None, False


class Patience:
    """Does again what failed: says the trouble once a minute, and waits longer after each failure in a row.

    passing: errors to be patient with; every other error is raised. every_s: wait always so long; None: back-off
    (shared/backoff.py). heard: is told each failure, before the wait.
    """

    def __init__(
        self,
        trouble: Trouble,
        passing: tuple[type[Exception], ...] = OF_THE_BUS,
        *,
        every_s: float | None = None,
        heard: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.trouble = trouble
        self.failures = 0
        """In a row."""
        self._passing = passing
        self._every_s = every_s
        self._heard = heard

    async def done(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the attempt gives, once it succeeds."""
        while True:
            end_if_cancelled()
            try:
                result = await attempt()
            except self._passing as problem:
                await self.failed(problem)
            else:
                self.worked()
                return result

    async def keep(self, work: Callable[[], Awaitable[object]]) -> Never:
        """Begin the work again whenever it ends or fails: at once when it went on for long.

        The work says `trouble.over()` when it has begun well.
        """
        while True:
            end_if_cancelled()
            began_at = time.monotonic()
            try:
                await work()
            except self._passing as problem:
                self._tell(problem)
            if time.monotonic() - began_at > LIMIT_S:
                self.failures = 0
            else:
                await self.wait()

    async def failed(self, problem: Exception) -> None:
        """Say the trouble and wait until the next try."""
        self._tell(problem)
        await self.wait()

    async def wait(self) -> None:
        await asyncio.sleep(self.next_wait_s())

    def next_wait_s(self) -> float:
        """Counts one failure more; gives the seconds until the next try."""
        self.failures += 1
        return delay_s(self.failures, random.random()) if self._every_s is None else self._every_s

    def worked(self) -> None:
        """The trouble is over, and the next failure is a first one."""
        self.failures = 0
        self.trouble.over()

    def _tell(self, problem: Exception) -> None:
        self._heard(problem)
        self.trouble.tell(problem)

"""The agent's life: it works until it is told to stop, and then removes what it made."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

from shared.tasks import first_of

SIGNAL_DRAIN_S = 8.0
"""Whoever stops an agent by a signal (systemd, a container's runtime) kills it after 10 s or more."""

log = structlog.get_logger()


class Lifetime:
    """Begins when it is made, inside a running event loop."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._drain_s = 0.0
        self._left: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    def stop(self, drain_s: float = 0.0) -> None:
        """Tell the agent to stop. drain_s: seconds it may wait for its clients to leave; 0 ends such a wait as well."""
        if not self._stop.is_set():
            self._drain_s = drain_s
        if not drain_s:
            self._at_once.set()
        self._stop.set()

    def signalled(self) -> None:
        """A signal asks the agent to stop, a second one to do so at once."""
        self.stop(0.0 if self._stop.is_set() else SIGNAL_DRAIN_S)

    async def down(self, drain_s: float) -> Mapping[str, str]:
        """Tell it to stop, and give what could not be removed once it has: entry → why."""
        self.stop(drain_s)
        return await asyncio.shield(self._left)

    async def run(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        drain: Callable[[float], Coroutine[Any, Any, None]],
        leave: Callable[[], Awaitable[None]],
        clean_up: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> int:
        """Work until told to stop, drain and leave while the work still goes on, then clean up; gives the exit code.

        clean_up: gives what could not be removed. Called however drain and leave end, and not when the work fails.
        """

        async def end() -> None:
            await self._stop.wait()
            if not self._at_once.is_set():
                await _whatever_happens(first_of(drain(self._drain_s), self._hurried()), "clients were not waited for")
            await _whatever_happens(leave(), "said no goodbye")

        await first_of(work(), end())
        left = await clean_up()
        self._left.set_result(left)
        for entry, problem in left.items():
            log.error("could not be removed", entry=entry, problem=problem)
        return 1 if left else 0

    async def _hurried(self) -> None:
        await self._at_once.wait()


async def _whatever_happens(part: Awaitable[None], otherwise: str) -> None:
    """Go on when the part fails, and say so: nobody would find what is left in the kernel."""
    (problem,) = await asyncio.gather(part, return_exceptions=True)
    if problem is not None:
        log.error(otherwise, exc_info=problem)

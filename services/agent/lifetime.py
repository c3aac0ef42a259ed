"""The agent's life: it works until it is told to stop, and then removes what it made."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

from shared.tasks import first_of

log = structlog.get_logger()


class Lifetime:
    """Begins when it is made, inside a running event loop."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._left: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Tell the agent to stop."""
        self._stop.set()

    async def down(self) -> Mapping[str, str]:
        """Tell it to stop, and give what could not be removed once it has: entry → why."""
        self.stop()
        return await asyncio.shield(self._left)

    async def run(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        leave: Callable[[], Awaitable[None]],
        clean_up: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> int:
        """Work until told to stop, leave while the work still goes on, then clean up; gives the exit code.

        clean_up: gives what could not be removed. It is not called when the work fails.
        """

        async def end() -> None:
            await self._stop.wait()
            await leave()

        await first_of(work(), end())
        left = await clean_up()
        self._left.set_result(left)
        for entry, problem in left.items():
            log.error("could not be removed", entry=entry, problem=problem)
        return 1 if left else 0

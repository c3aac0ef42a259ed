"""A number that only grows, and those who wait for it."""

import asyncio
import heapq
import itertools


class Progress:
    def __init__(self, reached: int = 0) -> None:
        self.reached = reached
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def advance(self, to: int) -> None:
        """Wake everybody who waits for `to` or less."""
        self.reached = max(self.reached, to)
        while self._waiting and self._waiting[0][0] <= self.reached:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)

    async def reach(self, wanted: int) -> None:
        """Return once the number is at least `wanted`. It waits as long as it takes."""
        if wanted <= self.reached:
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (wanted, next(self._order), waiter))
        await waiter

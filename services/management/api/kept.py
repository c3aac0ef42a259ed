"""What the API keeps of its long answers, and how it makes them without keeping others waiting."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

SLICE_S = 0.002
"""A long answer is made for this long before others may run: admissions, commits, other requests."""

K = TypeVar("K")


class Kept:
    """One object of each kind for each account, made when it is first asked for. All of it could be made again."""

    def __init__(self) -> None:
        self._things: dict[tuple[str, Callable[[], Any]], Any] = {}

    def of(self, account: str, kind: Callable[[], K]) -> K:
        """The account's object of that class."""
        thing = self._things.get((account, kind))
        if thing is None:
            thing = self._things[account, kind] = kind()
        return thing


class Slices:
    """Shares the event loop while something long is computed: `turn` after every few steps."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_S

    async def turn(self) -> None:
        """Let others run if this slice is over. What was read of a state before may be of an older one after."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE_S

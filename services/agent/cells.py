"""Values that the parts of the agent share, and how a part wakes when one is set.

A cell has one writer and any number of readers; its values are immutable, a change is another value. Readers see the
newest value whenever they look, and none of those that came in between: what happens again and again, and may not be
lost between two looks, is counted in the value (`since`).
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K")


class Cell(Generic[T]):
    """One shared value."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._watches: list[Watch] = []

    @property
    def value(self) -> T:
        return self._value

    def set(self, value: T) -> None:
        """Wake every watch of the cell, also for an equal value: parts that want a difference compare."""
        self._value = value
        for watch in self._watches:
            watch.wake()

    def watched_by(self, watch: "Watch") -> None:
        self._watches.append(watch)


class Watch:
    """Wakes one part, once however often its cells were set meanwhile.

    It begins when it is made: what a cell held before is not told.
    """

    def __init__(self, *cells: Cell[Any]) -> None:
        self._awake = asyncio.Event()
        for cell in cells:
            cell.watched_by(self)

    def wake(self) -> None:
        """End the wait there is, or the next one."""
        self._awake.set()

    def catch_up(self) -> None:
        """The part is about to look: what was set until now ends no wait any more."""
        self._awake.clear()

    async def wait(self, within_s: float | None = None) -> None:
        """Return when a cell was set since the last return, at once if it was already; within_s: after that at last.

        Whatever is set from then on ends the next wait, so that a part that looks after each wait misses no change.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._awake.wait()
        self.catch_up()


def since(before: Mapping[K, int], now: Mapping[K, int]) -> frozenset[K]:
    """The keys that were counted between two looks at a cell. Mappings: key → number of its last time, never reused."""
    return frozenset(key for key, number in now.items() if before.get(key) != number)


def counted(counts: Mapping[K, int], keys: Iterable[K]) -> dict[K, int]:
    """The counts after these keys happened once more. Keys are never taken out of such a mapping."""
    number = max(counts.values(), default=0) + 1
    return {**counts, **dict.fromkeys(keys, number)}

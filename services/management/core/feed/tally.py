"""Two small containers for indexes that follow a state: both forget a key with its last entry."""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
N = TypeVar("N", bound=Hashable)


class Tally(Generic[K]):
    """Counts how often each key is wanted, and tells which appeared or vanished since it was last asked."""

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}
        self._was_there: dict[K, bool] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._counts

    def add(self, keys: Iterable[K], number: int) -> None:
        """Count each of the keys `number` times more; a negative number takes away. Below zero raises ValueError."""
        for key in keys:
            before = self._counts.get(key, 0)
            self._was_there.setdefault(key, before > 0)
            after = before + number
            if after < 0:
                raise ValueError(f"{key!r} was taken away more often than added")
            if after:
                self._counts[key] = after
            else:
                self._counts.pop(key, None)

    def settle(self) -> list[K]:
        """Keys that are there and were not at the last call, or the reverse. What came and went does not count."""
        changed = [key for key, was_there in self._was_there.items() if was_there != (key in self._counts)]
        self._was_there.clear()
        return changed


class Index(Generic[K, N, V]):
    """Values under keys, each with a name of its own there."""

    def __init__(self) -> None:
        self._entries: dict[K, dict[N, V]] = {}

    def count(self, key: K, name: N, value: V, number: int) -> None:
        """Put the value there (1), or drop it (-1), which must be there then."""
        if number > 0:
            self._entries.setdefault(key, {})[name] = value
            return
        named = self._entries[key]
        del named[name]
        if not named:
            del self._entries[key]

    def values(self, key: K) -> Iterable[V]:
        """The values under `key`, in the order they came; nothing for an unknown key."""
        return self._entries.get(key, {}).values()

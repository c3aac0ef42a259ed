"""When to try again each entry that the kernel refused."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from shared.backoff import delay_s

K = TypeVar("K", bound=Hashable)


class Retries(Generic[K]):
    """Remember what failed and when each is due again. All times are seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._failed: dict[K, tuple[int, float]] = {}

    def failed(self, key: K, now: float, chance: float) -> float:
        """When `key` is due again."""
        failures = self._failed.get(key, (0, 0.0))[0] + 1
        due = now + delay_s(failures, chance)
        self._failed[key] = failures, due
        return due

    def succeeded(self, key: K) -> None:
        self._failed.pop(key, None)

    def waits(self, key: K, now: float) -> bool:
        """Whether `key` failed and is not due yet."""
        return key in self._failed and self._failed[key][1] > now

    def next_deadline(self) -> float | None:
        """When the next entry is due; None when nothing failed."""
        return min((due for _, due in self._failed.values()), default=None)

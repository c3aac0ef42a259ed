"""Entries the kernel refused: they stay dirty with their error, and are tried again later and later."""

import random
from collections.abc import Mapping
from typing import Any

from services.agent.core.reconcile.retry import Retries
from services.agent.core.reconcile.steps import Entry
from services.agent.loop.kernel import WAITS


class Failures:
    """What failed, with the value it was to get. Times are seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._retries: Retries[Entry] = Retries()
        self._failed: dict[Entry, tuple[Any, str]] = {}

    def reason(self, entry: Entry, value: Any, now: float) -> str:
        """Why the entry is not tried now: it failed with this value and is not due. "" when it is tried."""
        failed = self._failed.get(entry)
        return failed[1] if failed and failed[0] == value and self._retries.waits(entry, now) else ""

    def note(self, tried: Mapping[Entry, Any], errors: Mapping[Entry, str], now: float) -> None:
        """What came of a pass. tried: all entries of its plan and their values. now: as given to `reason`."""
        own = {entry: error for entry, error in errors.items() if error != WAITS}
        for entry in [known for known in self._failed if known not in own]:
            del self._failed[entry]
            self._retries.succeeded(entry)
        chance = random.random()  # one for all: what failed together is tried together, in one pass
        for entry, error in own.items():
            value = tried.get(entry)
            if not self.reason(entry, value, now):
                self._retries.failed(entry, now, chance)
                self._failed[entry] = value, error

    def next_deadline(self) -> float | None:
        return self._retries.next_deadline()

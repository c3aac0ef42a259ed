"""Who holds each lease of a return address."""

import asyncio
from collections.abc import Callable

from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import LeaseFact
from shared.events.subjects import BadSubject, FactKey


class Holders:
    """Follows the leases (shared.bus.lastvalues.Reader). on_change: called with the account of one that changed hands.

    known: set once all were read.
    """

    pattern = subjects.FACT_LEASES

    def __init__(self, undecodables: Undecodables, on_change: Callable[[str], None]) -> None:
        self.known = asyncio.Event()
        self._undecodables = undecodables
        self._on_change = on_change
        self._holders: dict[tuple[str, str], str] = {}
        self._found: set[tuple[str, str]] | None = None

    def of(self, account: str, lease: str) -> str:
        """Id of the peer, "" for nobody."""
        return self._holders.get((account, lease), "")

    def begin(self) -> None:
        self._found = set()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key: FactKey = subjects.parse_fact(subject)
            holder = decode(subject, data, LeaseFact).holder
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note(self.pattern, problem)
            return
        if self._found is not None:
            self._found.add((key.account, key.id))
        self._set(key.account, key.id, holder)

    def caught_up(self) -> None:
        """Forget what the snapshot did not bring: it was removed."""
        found, self._found = self._found or set(), None
        for account, lease in self._holders.keys() - found:
            self._set(account, lease, "")
        self.known.set()

    def _set(self, account: str, lease: str, holder: str) -> None:
        if self.of(account, lease) == holder:
            return
        if holder:
            self._holders[account, lease] = holder
        else:
            del self._holders[account, lease]
        self._on_change(account)

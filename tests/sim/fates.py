"""What becomes of gateways beside what the control plane wants of them."""

from collections.abc import Iterable

import msgspec

from services.management.core.feed.unit import LastWord
from shared.events.documents import Withdrawn

SESSION_S = 60.0
"""After so long WireGuard gives up a host that says nothing."""


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """dead_since: when its machine went, None while it is there. frozen: its agent says nothing, its kernel goes on.
    legless: the networks behind it are out of its reach. draining: it is about to stop."""

    dead_since: float | None = None
    frozen: bool = False
    legless: bool = False
    draining: bool = False

    def has_session(self, now: float) -> bool:
        return self.dead_since is None or now - self.dead_since < SESSION_S

    def last_word(self, routes: Iterable[str]) -> LastWord:
        """What its agent said last, of these routes."""
        withdrawn = tuple(Withdrawn(route, "eth1 is gone") for route in routes) if self.legless else ()
        return LastWord(agent=not self.frozen, draining=self.draining, withdrawn=withdrawn)


WELL = Fate()

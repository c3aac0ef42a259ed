"""Which routing peers are asked, and when others may be asked in their place."""

from collections.abc import Iterable

from shared.events.subjects import ResolvedKey

MOST = 3
"""Routing peers of a route that are asked for one name before it waits for its next turn."""

SILENT_FOR_S = 30.0
"""One that did not answer is left out for so long; then a question finds out whether it is back."""

AWAY_AFTER = 3
APART_S = 2.0
"""So many times in a row, so long apart or longer, no answer: a routing peer that did answer before counts as away."""


class Routing:
    """Remembers who answers. All times are seconds on one monotonic clock.

    A routing peer that answered before and does not now is waited for: the DNS servers may know another network under
    the same names. One that was never heard of, or is away, is done without.
    """

    def __init__(self) -> None:
        self._silent_until: dict[ResolvedKey, float] = {}
        self._missed: dict[ResolvedKey, int] = {}
        self._missed_at: dict[ResolvedKey, float] = {}

    def to_ask(self, peers: Iterable[ResolvedKey], now: float) -> list[ResolvedKey]:
        """Those to ask, in this order."""
        return [peer for peer in peers if self._silent_until.get(peer, now) <= now][:MOST]

    def may_be_back(self, peers: Iterable[ResolvedKey]) -> bool:
        """Whether one of them answered a moment ago."""
        return any(self._missed.get(peer, AWAY_AFTER) < AWAY_AFTER for peer in peers)

    def answered(self, peer: ResolvedKey) -> None:
        """It said something, be it that it cannot find out."""
        self._missed[peer] = 0
        self._silent_until.pop(peer, None)

    def answered_before(self, peer: ResolvedKey) -> None:
        """It did when another replica asked; what is known here is newer."""
        self._missed.setdefault(peer, 0)

    def silent(self, peer: ResolvedKey, now: float) -> None:
        """It did not answer a question in time; many at once are one time."""
        if now - self._missed_at.get(peer, float("-inf")) < APART_S:
            return
        self._missed_at[peer] = now
        missed = min(self._missed.get(peer, AWAY_AFTER) + 1, AWAY_AFTER)
        self._missed[peer] = missed
        if missed >= AWAY_AFTER:
            self._silent_until[peer] = now + SILENT_FOR_S

"""How often is told that the same routing peer stands otherwise: a few times at once, then once a second.

What one host says of itself is written and sent to all its clients: one that says another thing a hundred times
a second would keep the bus busy for all. Who has waited is told of as it stands then, so that nothing is lost but what
was over before.
"""

from typing import TypeAlias

AT_ONCE = 8
"""Changes that are told without waiting. A gateway that starts, or loses all its legs, says so in two or three."""

THEN_EVERY_S = 1.0
"""After that, and until it was quiet for AT_ONCE times as long."""

Place: TypeAlias = tuple[str, str]
"""Account and peer."""


class Pace:
    """now: monotonic seconds."""

    def __init__(self) -> None:
        self._used_until: dict[Place, float] = {}
        self._waiting: set[Place] = set()

    def changed(self, place: Place, now: float) -> float | None:
        """How long to wait before it is told; None when that is waited for already."""
        if place in self._waiting:
            return None
        until = self._used_until[place] = max(now, self._used_until.get(place, now)) + THEN_EVERY_S
        wait_s = max(0.0, until - now - AT_ONCE * THEN_EVERY_S)
        if wait_s:
            self._waiting.add(place)
        return wait_s

    def waited(self, place: Place) -> None:
        """It is told now."""
        self._waiting.discard(place)

    def forget(self, now: float) -> None:
        """What was quiet for long enough."""
        for place in [place for place, until in self._used_until.items() if until <= now]:
            del self._used_until[place]

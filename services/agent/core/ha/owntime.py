"""A clock that only knows the time in which its owner was awake."""

TOLERANCE_S = 0.02
"""How late whoever waits may be called on a host that has something to do, and still have listened meanwhile."""


class OwnTime:
    """Own seconds since the start, 0.0 at first. They pass as planned, and at most TOLERANCE_S more.

    A process that was stopped, a host that slept, a loop that was busy or a clock that jumped adds no more than that:
    who did not listen cannot say that nobody spoke. now: monotonic seconds. missed_s: how much did not count so far,
    of a clock that went back as well.
    """

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self.missed_s = 0.0
        self._at = now
        self._planned_s = 0.0

    def advance(self, now: float) -> None:
        """Now is the time the owner was called at."""
        passed_s = now - self._at
        counted_s = min(max(0.0, passed_s), self._planned_s + TOLERANCE_S)
        self.seconds += counted_s
        self.missed_s += abs(passed_s - counted_s)
        self._at = now
        self._planned_s = 0.0

    def plan(self, until: float | None) -> float | None:
        """When to be called next, in monotonic seconds, so that it is the own second `until` then; None: whenever."""
        if until is None:
            self._planned_s = float("inf")
            return None
        self._planned_s = max(0.0, until - self.seconds)
        return self._at + self._planned_s

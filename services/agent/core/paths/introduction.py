"""When to tell a peer our endpoints, and whether to ask for its own.

Signals pass at most once and a peer may be away, so that a question is repeated until it is answered.
"""

FIRST_S = 1.0
LIMIT_S = 30.0


class Introduction:
    """What is to be sent to one peer. All times are seconds on one monotonic clock."""

    def __init__(self, now: float) -> None:
        self._ask_at: float | None = now
        self._tell_at: float | None = None
        self._asked = 0

    def ask(self, now: float) -> None:
        """Send at once, and again until `settled`."""
        self._ask_at, self._asked = now, 0

    def tell(self, now: float) -> None:
        """Send at once; an open question goes with it."""
        self._tell_at = now

    def settled(self) -> None:
        """The peer's endpoints came, or it is connected: no more questions."""
        self._ask_at = None

    def next_deadline(self) -> float | None:
        return min((at for at in (self._ask_at, self._tell_at) if at is not None), default=None)

    def take(self, now: float) -> bool | None:
        """Whether to send now with a question (True) or without (False); None: nothing to send."""
        due = self.next_deadline()
        if due is None or now < due:
            return None
        self._tell_at = None
        if self._ask_at is None:
            return False
        self._ask_at = now + min(LIMIT_S, FIRST_S * 2 ** min(self._asked, 10))
        self._asked += 1
        return True

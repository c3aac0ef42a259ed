"""Whether clients send their packets through this host: what the kernel has counted of them, look by look."""

FORGOTTEN_S = 3.0
"""Who has sent nothing for so long does not use this host."""


class Used:
    """Times are seconds on one monotonic clock. last: when a packet was last seen to have come, -inf for never."""

    def __init__(self) -> None:
        self.last = float("-inf")
        self._first = float("-inf")
        self._packets: int | None = None

    def counted(self, packets: int, now: float) -> None:
        """How many have come by now. Of the first look nobody knows when they came, nor of a count that began anew."""
        if self._packets is not None and packets > self._packets:
            if now - self.last > FORGOTTEN_S:
                self._first = now
            self.last = now
        self._packets = packets

    def forget(self) -> None:
        """What came until now was for another reason."""
        self.last = self._first = float("-inf")

    def since(self, now: float) -> float | None:
        """When packets began to come, None if none do."""
        return self._first if now - self.last <= FORGOTTEN_S else None

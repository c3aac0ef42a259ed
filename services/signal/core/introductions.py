"""Which sealed signals may pass from one peer to another. Their content stays closed."""

import msgspec

from services.signal.errors import Withheld
from shared.events import subjects

MAX_SIGNAL_BYTES = 16 * 1024
"""A sealed list of 100 candidates takes about 4 KiB; an ICE offer of NetBird's about 1 KiB."""

BURST = 2_000
"""Signals a sender may send at once: a routing peer that comes up introduces itself to all of its clients."""

RATE_PER_S = 100.0
"""Signals a second after that, on each replica."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: int = MAX_SIGNAL_BYTES
    burst: int = BURST
    rate_per_s: float = RATE_PER_S


class Sender(msgspec.Struct, frozen=True):
    account: str
    peer: str


class _Bucket(msgspec.Struct, frozen=True):
    tokens: float
    at: float


class Introductions:
    """Decides about signals one by one; `now` is seconds on one monotonic clock and never goes backwards."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[Sender, _Bucket] = {}
        """Least recently used first. A bucket that had the time to fill up is forgotten: a new one is full."""

    def delivery(self, subject: str, size: int, now: float) -> str:
        """The subject on which to deliver a signal of `size` bytes; raises Withheld or BadSubject.

        The sender is the one in `subject`, which the bus lets nobody else use.
        """
        key = subjects.parse_signal(subject)
        delivery = subjects.signal_to(key.account, key.receiver, key.sender)
        if size > self._limits.max_bytes:
            raise Withheld("too-large")
        if not self._take_token(Sender(key.account, key.sender), now):
            raise Withheld("too-many")
        return delivery

    @property
    def remembered(self) -> int:
        """How many senders are kept in memory."""
        return len(self._buckets)

    def _take_token(self, sender: Sender, now: float) -> bool:
        self._forget_full(now)
        bucket = self._buckets.pop(sender, _Bucket(self._limits.burst, now))
        tokens = min(self._limits.burst, bucket.tokens + (now - bucket.at) * self._limits.rate_per_s)
        allowed = tokens >= 1
        self._buckets[sender] = _Bucket(tokens - 1 if allowed else tokens, now)
        return allowed

    def _forget_full(self, now: float) -> None:
        full_after_s = self._limits.burst / self._limits.rate_per_s
        while self._buckets:
            sender, bucket = next(iter(self._buckets.items()))
            if bucket.at + full_after_s > now:
                return
            del self._buckets[sender]

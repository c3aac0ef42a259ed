"""Sealed signals on their way from one peer to another."""

import time
from collections.abc import Callable

from services.signal.core.introductions import Introductions
from services.signal.errors import Withheld
from services.signal.ports import Deliver
from shared.metrics import REGISTRY, Counter

_forwarded = Counter("whimbrel_signal_forwarded", "Signals handed to their receiver", registry=REGISTRY)
_withheld = Counter("whimbrel_signal_withheld", "Signals that were not handed on", ["reason"], registry=REGISTRY)


class Forwarding:
    """Hands signals on as the bytes they are: no header, reply subject or content of the sender's is looked at."""

    def __init__(
        self,
        introductions: Introductions,
        deliver: Deliver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._introductions = introductions
        self._deliver = deliver
        self._clock = clock

    async def signal(self, subject: str, payload: bytes) -> None:
        """Deliver it, or drop and count it. Raises BadSubject."""
        try:
            delivery = self._introductions.delivery(subject, len(payload), self._clock())
        except Withheld as refusal:
            _withheld.labels(refusal.reason).inc()
        else:
            await self._deliver(delivery, payload)
            _forwarded.inc()

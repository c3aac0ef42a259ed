"""A service's connection to the bus."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import structlog
from nats.aio.client import Client, Server

from shared.events import subjects

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
REPORT_EVERY_S = 60.0

log = structlog.get_logger()


def wait_before(attempt: int, fraction: float) -> float:
    """Seconds to wait before the attempt (0, 1, …): 0.5 s doubling to 15 s, between half and all of it.

    fraction: a random number in [0, 1) that spreads reconnect storms.
    """
    longest: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10))
    return longest * (0.5 + fraction / 2)


class _Patience:
    """Chooses when to try again, and says so once a minute instead of at every try."""

    def __init__(self) -> None:
        self.attempt = 0
        self._reported_at = float("-inf")

    def __call__(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        wait = wait_before(self.attempt, random.random())
        self.attempt += 1
        return servers[self.attempt % len(servers)], wait

    async def report(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = now
            log.warning("bus trouble, going on trying", problem=str(problem) or type(problem).__name__)

    async def reset(self) -> None:
        self.attempt = 0


async def connect(
    url: str, seed: str, role: str, *, on_disconnect: Callable[[], Awaitable[None]] | None = None
) -> Client:
    """A connection that is never given up: tries until the bus answers, and again after each loss.

    seed: nkey seed of the service user. role: names the connection and its inbox, as in the server's permissions.
    """
    patience = _Patience()
    while True:
        try:
            return await nats.connect(
                url.split(","),
                name=role,
                nkeys_seed_str=seed,
                inbox_prefix=subjects.inbox(role),
                error_cb=patience.report,
                reconnected_cb=patience.reset,
                disconnected_cb=on_disconnect,
                reconnect_to_server_handler=patience,
                max_reconnect_attempts=-1,
                pending_size=64 * 1024 * 1024,
                allow_reconnect=True,
            )
        except (TimeoutError, OSError, nats.errors.Error) as problem:
            await patience.report(problem)
            await asyncio.sleep(wait_before(patience.attempt, random.random()))
            patience.attempt += 1

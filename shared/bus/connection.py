"""A service's connection to the bus."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client, Server

from shared.bus.address import parse_bus
from shared.bus.transport import BusTransport
from shared.events import subjects
from shared.tasks import end_if_cancelled

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
PING_EVERY_S = 5
"""A server that hangs, or whose machine vanished, counts as lost after three of these."""

REPORT_EVERY_S = 60.0
CONNECT_TIMEOUT_S = 5.0
"""For each step of connecting, on a machine that is busy as well."""

UNANSWERED = "the bus does not answer"

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
    url: str,
    seed: str,
    role: str,
    *,
    ca: Path | None = None,
    name: str = "",
    on_disconnect: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """A connection that is never given up: tries until the bus answers, and again after each loss.

    url, ca, name: as shared.bus.address.parse_bus takes them; raises BadSetting for what makes no sense.
    seed: nkey seed of the service user. role: names the connection and its inbox, as in the server's permissions.
    """
    bus = parse_bus(url, ca, name)
    patience = _Patience()
    while True:
        end_if_cancelled()
        client = Client()
        client._transport = BusTransport(bus)  # nats-py makes one of its own only where there is none
        try:
            await client.connect(
                list(bus.urls),
                name=role,
                nkeys_seed_str=seed,
                inbox_prefix=subjects.inbox(role),
                error_cb=patience.report,
                reconnected_cb=patience.reset,
                disconnected_cb=on_disconnect,
                reconnect_to_server_handler=patience,
                max_reconnect_attempts=-1,
                ping_interval=PING_EVERY_S,
                max_outstanding_pings=2,
                pending_size=64 * 1024 * 1024,
                allow_reconnect=True,
                connect_timeout=CONNECT_TIMEOUT_S,  # type: ignore[arg-type]
            )
            return client
        except (TimeoutError, OSError, nats.errors.Error) as problem:
            await patience.report(problem)
            await asyncio.sleep(wait_before(patience.attempt, random.random()))
            patience.attempt += 1


def troubles(connection: Client | None) -> Sequence[str]:
    """Why a service over this connection does not do its work: the bus is away, or was never there (None)."""
    return () if connection is not None and connection.is_connected else (UNANSWERED,)

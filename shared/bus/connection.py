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


class Trouble:
    """What does not work for now: `trouble` is said once a minute while it lasts, and then once that it is `over`.

    quiet_s: what is over sooner is not worth a line. about: facts that each line names.
    """

    def __init__(
        self,
        trouble: str,
        over: str,
        *,
        quiet_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        **about: str,
    ) -> None:
        self._trouble = trouble
        self._over = over
        self._quiet_s = quiet_s
        self._clock = clock
        self._about = about
        self._since: float | None = None
        self._said = False
        self._said_at = float("-inf")

    def begin(self) -> None:
        """It begins now: what was told before was of something else."""
        self._since = self._clock()

    def tell(self, problem: Exception) -> None:
        """It is there, or still there."""
        now = self._clock()
        if self._since is None:
            self._since = now
        if now - self._since >= self._quiet_s and now - self._said_at >= REPORT_EVERY_S:
            self._said, self._said_at = True, now
            said = str(problem) or type(problem).__name__
            log.warning(f"{self._trouble}, going on trying", problem=said, **self._about)

    def over(self) -> None:
        """It works again, or still."""
        if self._said and self._since is not None:
            log.info(self._over, after_s=round(self._clock() - self._since, 1), **self._about)
        self._since, self._said = None, False


class _Patience:
    """Chooses when to try again."""

    def __init__(self, on_disconnect: Callable[[], Awaitable[None]] | None) -> None:
        self.attempt = 0
        self._trouble = Trouble("bus trouble", "the bus is back")
        self._on_disconnect = on_disconnect

    def __call__(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        wait = wait_before(self.attempt, random.random())
        self.attempt += 1
        return servers[self.attempt % len(servers)], wait

    async def report(self, problem: Exception) -> None:
        self._trouble.tell(problem)

    async def lost(self) -> None:
        self._trouble.begin()
        if self._on_disconnect is not None:
            await self._on_disconnect()

    async def reset(self) -> None:
        self.attempt = 0
        self._trouble.over()


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
    patience = _Patience(on_disconnect)
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
                disconnected_cb=patience.lost,
                reconnect_to_server_handler=patience,
                max_reconnect_attempts=-1,
                ping_interval=PING_EVERY_S,
                max_outstanding_pings=2,
                pending_size=64 * 1024 * 1024,
                allow_reconnect=True,
                connect_timeout=CONNECT_TIMEOUT_S,  # type: ignore[arg-type]
            )
            await patience.reset()
            return client
        except (TimeoutError, OSError, nats.errors.Error) as problem:
            await patience.report(problem)
            await asyncio.sleep(wait_before(patience.attempt, random.random()))
            patience.attempt += 1


def troubles(connection: Client | None) -> Sequence[str]:
    """Why a service over this connection does not do its work: the bus is away, or was never there (None)."""
    return () if connection is not None and connection.is_connected else (UNANSWERED,)
